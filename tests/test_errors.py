"""The exception tree: what a handler may catch, what a message says, what survives a pickle."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest

from jammi_files import errors

TREE = {
    name: cls
    for name, cls in inspect.getmembers(errors, inspect.isclass)
    if cls.__module__ == errors.__name__
}


def _sample(cls):
    if cls is errors.CommitUnknownError:
        return cls("the store did not answer", "5f0c")
    return cls("the store did not answer")


@pytest.mark.parametrize("cls", TREE.values(), ids=TREE)
def test_one_base(cls):
    """Every error is a JammiFilesError, so that one handler can catch all."""
    assert issubclass(cls, errors.JammiFilesError)


@pytest.mark.parametrize(
    ("cls", "builtin"),
    [
        (errors.NotFoundError, KeyError),
        (errors.TableNotFoundError, KeyError),
        (errors.VersionNotFoundError, KeyError),
        (errors.InvalidInputError, ValueError),
        (errors.StorageError, OSError),
        (errors.MissingPackageError, ImportError),
    ],
)
def test_builtin_bases(cls, builtin):
    """Handlers written for the built-in KeyError, ValueError and OSError catch ours."""
    with pytest.raises(builtin):
        raise cls("why")


def test_certain_and_uncertain_are_unrelated():
    """A conflict (not applied) is never caught as an unknown outcome, nor the other way round."""
    assert not issubclass(errors.ConflictError, errors.CommitUnknownError)
    assert not issubclass(errors.CommitUnknownError, errors.ConflictError)


@pytest.mark.parametrize("cls", TREE.values(), ids=TREE)
def test_message_is_shown_bare(cls):
    """The message is printed as it was given, without the quotes that KeyError adds."""
    assert str(_sample(cls)) == "the store did not answer"


@pytest.mark.parametrize("cls", TREE.values(), ids=TREE)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickle(cls, protocol):
    """An error raised in a worker process arrives as the same class with the same message."""
    error = _sample(cls)
    for again in (pickle.loads(pickle.dumps(error, protocol)), copy.copy(error)):  # noqa: S301 - our own bytes
        assert type(again) is cls
        assert str(again) == str(error)
        assert again.args == error.args
        assert vars(again) == vars(error)


def test_commit_id_survives():
    """An unknown commit carries the id to look for, over a process border too."""
    error = pickle.loads(pickle.dumps(errors.CommitUnknownError("lost", "5f0c")))  # noqa: S301 - our own bytes
    assert error.commit_id == "5f0c"
    assert str(error) == "lost"


def test_table_not_found_text():
    """A missing table and an invisible one are worded alike (`B071`, `B226`)."""
    error = errors.TableNotFoundError.named("docs__ner")
    assert type(error) is errors.TableNotFoundError
    assert str(error) == "Result table 'docs__ner' not found"


def test_docstring_draws_the_tree():
    """The module's docstring names every class, so that the drawing cannot go stale."""
    drawing = inspect.getdoc(errors)
    assert {name for name in TREE if name not in drawing} == set()
