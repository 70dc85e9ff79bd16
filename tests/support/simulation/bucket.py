"""A bucket below `ObjectStorage`: objects, requests on their way, and answers that go wrong.

A request takes effect at one instant of simulated time, its answer arrives later; what was lost,
sent again or delayed is what a store and a network do, and the library's own code has to cope.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, NoReturn

from support.simulation.plan import Fault, Plan, Trouble
from support.simulation.world import EPOCH, SECOND, Crash, Task, World

from jammi_files.dialects import Dialect, Entry

BUCKET = "bucket"
ROOT = "sim://bucket/root"


@dataclasses.dataclass
class Object:
    """One object and when it was written."""

    data: bytes
    modified: int


class AnswerError(OSError):
    """An answer that is an error; status 0 is no answer at all."""

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status}" if status else "timed out")
        self.status = status


class Bucket:
    """The objects; ``watch`` is told of each change as it takes effect."""

    def __init__(self, world: World, plan: Plan) -> None:
        self.world = world
        self.objects: dict[str, Object] = {}
        self.watch: Any = None
        self.careless = ""
        """Part of the keys that a create overwrites instead of being refused; none by default."""
        self.injected: Counter[str] = Counter()
        self.met: set[tuple[str, Trouble]] = set()
        """The faults of the plan that happened, each with its client."""
        self.stale = int(plan.stale_listings * SECOND)
        """Nanoseconds that a listing may be behind."""
        self._past: dict[str, list[tuple[int, Object | None]]] = {}
        self._troubles: dict[tuple[str, str, int], Trouble] = {}
        self._aims: dict[str, list[str]] = {}
        self._counts: Counter[tuple[str, str]] = Counter()
        for client in plan.clients:
            self._aims[client.name] = sorted({each.on for each in client.troubles})
            for each in client.troubles:
                self._troubles[client.name, each.on, each.at] = each

    def request(self, kind: str, key: str, act: Callable[[], Any]) -> Any:
        """Send one request of the running task and return or raise its answer."""
        task = self.world.current
        if self.world.is_over:
            raise Crash
        task.requests += 1
        trouble = self._trouble(task, f"{kind} {key}")
        call = _Call(self.world, task, kind, key, act)
        if trouble is None:
            return call.send()
        self.injected[str(trouble.fault)] += 1
        self.world.note(task.life.name, task.name, "fault", trouble.fault, kind, key)
        return call.send_badly(trouble)

    def _trouble(self, task: Task, request: str) -> Trouble | None:
        """Count a request; return the fault that it meets."""
        found = None
        for aim in self._aims.get(task.name, ()):
            if aim in request:
                self._counts[task.name, aim] += 1
                at = self._counts[task.name, aim]
                found = self._troubles.get((task.name, aim, at), found)
        if found is not None:
            self.met.add((task.name, found))
            task.lost = found.lost
        elif task.lost:
            task.lost -= 1
            found = Trouble(task.requests, Fault.LOST, task.chance.random())
        return found

    # What takes effect, at the instant of the call.

    def create(self, key: str, data: bytes) -> None:
        """Create an object unless there is one."""
        if key in self.objects and not (self.careless and self.careless in key):
            raise FileExistsError(key)
        self.put(key, data)

    def put(self, key: str, data: bytes) -> None:
        """Create or overwrite an object."""
        self.watch.before_put(key, data)
        self.objects[key] = Object(data, self.world.now)
        self._remember(key)
        self.watch.after_put(key, data)

    def get(self, key: str) -> bytes:
        """Return an object's bytes."""
        if key not in self.objects:
            raise FileNotFoundError(key)
        return self.objects[key].data

    def remove(self, key: str) -> None:
        """Delete an object."""
        if key not in self.objects:
            raise FileNotFoundError(key)
        self.watch.before_delete(key)
        del self.objects[key]
        self._remember(key)

    def entries(self, prefix: str) -> list[Entry]:
        """List what lies directly under a prefix, each object as it is or was a while ago."""
        found: dict[str, Entry] = {}
        for key, each in self._listed():
            if key.startswith(prefix):
                head, slash, _ = key[len(prefix) :].partition("/")
                name = prefix + head + slash
                found[name] = (
                    Entry(name) if slash else Entry(name, len(each.data), instant(each.modified))
                )
        return [found[name] for name in sorted(found)]

    def _remember(self, key: str) -> None:
        if self.stale:
            self._past.setdefault(key, []).append((self.world.now, self.objects.get(key)))

    def _listed(self) -> Iterator[tuple[str, Object]]:
        if not self.stale:
            yield from self.objects.items()
            return
        for key, states in self._past.items():
            then = self.world.now - int(self.stale * self.world.current.chance.random())
            seen = [each for at, each in states if at <= then]
            if seen and seen[-1] is not None:
                yield key, seen[-1]


class _Call:
    """One request between its task and the bucket."""

    def __init__(
        self, world: World, task: Task, kind: str, key: str, act: Callable[[], Any]
    ) -> None:
        self.world, self.task, self.kind, self.key, self.act = world, task, kind, key, act
        self.answer: tuple[Any, Exception | None] = None, None

    def send(self, *, there: float | None = None, back: float | None = None) -> Any:
        """Send, take effect, be answered."""
        self._arrive(self._latency() if there is None else there)
        return self._await(self._latency() if back is None else back)

    def send_badly(self, trouble: Trouble) -> Any:
        """Send with one fault."""
        fault, chance = trouble.fault, trouble.chance
        patience = 1 + 30 * chance
        if fault is Fault.CRASH:
            if chance < 0.7:
                self._arrive(self._latency() if chance < 0.4 else patience * 100)
            self.world.kill(self.task.life)
            raise Crash
        if fault in (Fault.CONFLICT, Fault.THROTTLED, Fault.UNAVAILABLE):
            self.world.sleep(self._latency())
            raise AnswerError(int(fault))
        if fault in (Fault.LOST, Fault.UNANSWERED, Fault.LATE, Fault.BROKEN):
            self._go_unanswered(fault, chance, patience)
        if fault is Fault.RESENT:
            self._arrive(self._latency())
            self.world.sleep(patience)
            return self.send()
        return self._be_answered(fault, chance, patience)

    def _go_unanswered(self, fault: Fault, chance: float, patience: float) -> NoReturn:
        if fault is Fault.UNANSWERED or (fault is Fault.BROKEN and chance < 0.5):
            self._arrive(self._latency())
        elif fault is Fault.LATE:
            self._arrive(patience * (0.5 + 10 ** (4 * chance)))
        self.world.sleep(0.2 if fault is Fault.BROKEN else patience)
        raise AnswerError(500 if fault is Fault.BROKEN else 0)

    def _be_answered(self, fault: Fault, chance: float, patience: float) -> Any:
        if fault is Fault.SLOW:
            return self.send(there=10 * chance * chance, back=5 * (1 - chance))
        if fault is Fault.DOUBLED:
            self._arrive(patience * 10 ** (4 * chance))
        elif fault is Fault.CLOCK:
            process = self.task.process
            process.skew += int((chance - 0.5) * 4000 * SECOND)
            process.most_skew = max(process.skew, process.most_skew)
        try:
            return self.send()
        finally:
            if fault is Fault.PAUSE:
                self.world.sleep(10 * 10 ** (4.5 * chance))

    def _latency(self) -> float:
        return 0.002 + self.task.chance.random() * 0.05

    def _arrive(self, seconds: float) -> None:
        life = self.task.life

        def take_effect() -> None:
            outcome = "done"
            self.world.task, before = self.task, self.world.task
            try:
                self.answer = self.act(), None
            except (FileExistsError, FileNotFoundError) as error:
                self.answer, outcome = (None, error), type(error).__name__
            finally:
                self.world.task = before
            self.world.note(life.name, self.task.name, self.kind, self.key, outcome)

        self.world.after(seconds, take_effect)
        self._last = self.world.now + int(seconds * SECOND)

    def _await(self, back: float) -> Any:
        self.world.sleep(max(0.0, (self._last - self.world.now) / SECOND) + back)
        result, error = self.answer
        if error is not None:
            raise type(error)(*error.args)
        return result


class FileSystem:
    """The bucket as an fsspec file system; it gives up when it wants to, not after ``timeout``."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket

    def pipe_file(self, path: str, data: bytes, mode: str = "overwrite", **_: float) -> None:
        act = self.bucket.create if mode == "create" else self.bucket.put
        self.bucket.request(mode, path, lambda: act(path, data))

    def cat_file(self, path: str, start: int = 0, end: int | None = None, **_: float) -> bytes:
        return bytes(self.bucket.request("get", path, lambda: self.bucket.get(path)[start:end]))

    def rm_file(self, path: str, **_: float) -> None:
        self.bucket.request("delete", path, lambda: self.bucket.remove(path))


class SimulatedDialect(Dialect):
    """How `ObjectStorage` speaks to the bucket."""

    scheme, extra, permissions, reach = "sim", "sim", "none", "nothing"

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket

    def options_for(self, root: str, options: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        return {}

    def base_of(self, root: str) -> str:
        return root.removeprefix("sim://")

    def connect(self, options: Mapping[str, Any]) -> Any:  # noqa: ARG002
        return FileSystem(self.bucket)

    def split(self, path: str, **__: object) -> tuple[str, str, None]:
        bucket, _, key = path.partition("/")
        return bucket, key, None

    def size(self, fs: Any, path: str, within: float) -> int:  # noqa: ARG002
        return int(self.bucket.request("head", path, lambda: len(self.bucket.get(path))))

    def list(self, fs: Any, bucket: str, prefix: str, within: float) -> Iterator[Entry]:  # noqa: ARG002
        start = f"{bucket}/{prefix}"
        found = self.bucket.request("list", start, lambda: self.bucket.entries(start))
        for entry in found:
            yield entry._replace(key=entry.key.removeprefix(f"{bucket}/"))

    endpoints: ClassVar[tuple[str, ...]] = ()
    spellings: ClassVar[dict[str, str]] = {}


def instant(nanoseconds: int) -> dt.datetime:
    """Return the store's clock as listings show it."""
    return dt.datetime.fromtimestamp((EPOCH + nanoseconds) // SECOND, dt.UTC)
