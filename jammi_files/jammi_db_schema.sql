-- The catalog.db of jammi-db 0.32: the tables, indexes and seed rows that its 22 migrations leave.
-- The engine refuses a catalog without them and runs no migration that is recorded as applied.

CREATE TABLE applied_migrations (
    name       TEXT PRIMARY KEY,
    applied_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
);
INSERT INTO applied_migrations (name) VALUES
    ('001_core_tables'),
    ('002_result_tables'),
    ('003_eval_columns'),
    ('004_drop_embedding_sets'),
    ('005_tenant_scope'),
    ('006_channel_columns'),
    ('007_mutable_tables'),
    ('008_mutable_order_column'),
    ('009_topics'),
    ('010_rename_source_type_local_to_file'),
    ('011_eval_per_query'),
    ('012_topics_tenant_unique'),
    ('013_result_table_kind'),
    ('014_bm25_channel'),
    ('015_fine_tune_job_queue'),
    ('016_rename_training_jobs'),
    ('017_model_artifact_path_column'),
    ('018_eval_runs_model_id_nullable'),
    ('019_normalize_model_status'),
    ('020_channel_tenant_scope'),
    ('021_materialization_contract'),
    ('022_definition_hash_index');

CREATE TABLE sources (
    source_id   TEXT PRIMARY KEY,
    name        TEXT NOT NULL,
    source_type TEXT NOT NULL,
    uri         TEXT NOT NULL,
    schema_json TEXT,
    options     TEXT,
    created_at  TEXT NOT NULL DEFAULT (CAST(CURRENT_TIMESTAMP AS TEXT)),
    updated_at  TEXT NOT NULL DEFAULT (CAST(CURRENT_TIMESTAMP AS TEXT)),
    tenant_id   TEXT
);
CREATE INDEX idx_sources_tenant ON sources(tenant_id);

CREATE TABLE models (
    model_id      TEXT PRIMARY KEY,
    name          TEXT NOT NULL,
    model_type    TEXT NOT NULL,
    task          TEXT NOT NULL,
    backend       TEXT,
    version       INTEGER NOT NULL DEFAULT 1,
    source        TEXT,
    dimensions    INTEGER,
    status        TEXT NOT NULL DEFAULT 'available',
    metadata      TEXT,
    created_at    TEXT NOT NULL DEFAULT (CAST(CURRENT_TIMESTAMP AS TEXT)),
    updated_at    TEXT NOT NULL DEFAULT (CAST(CURRENT_TIMESTAMP AS TEXT)),
    tenant_id     TEXT,
    artifact_path TEXT
);
CREATE INDEX idx_models_type ON models(model_type);
CREATE INDEX idx_models_task ON models(task);
CREATE INDEX idx_models_tenant ON models(tenant_id);

CREATE TABLE training_jobs (
    job_id           TEXT PRIMARY KEY,
    base_model_id    TEXT NOT NULL REFERENCES models(model_id),
    output_model_id  TEXT,
    training_source  TEXT NOT NULL,
    loss_type        TEXT NOT NULL,
    hyperparams      TEXT NOT NULL,
    status           TEXT NOT NULL DEFAULT 'pending',
    metrics          TEXT,
    created_at       TEXT NOT NULL DEFAULT (CAST(CURRENT_TIMESTAMP AS TEXT)),
    updated_at       TEXT NOT NULL DEFAULT (CAST(CURRENT_TIMESTAMP AS TEXT)),
    tenant_id        TEXT,
    kind             TEXT NOT NULL DEFAULT 'fine_tune',
    claimed_by       TEXT,
    lease_expires_at TEXT,
    attempts         INTEGER NOT NULL DEFAULT 0,
    training_spec    TEXT
);
CREATE INDEX idx_training_jobs_status ON training_jobs(status);
CREATE INDEX idx_training_jobs_tenant ON training_jobs(tenant_id);
CREATE INDEX idx_training_jobs_claim ON training_jobs(status, lease_expires_at);

CREATE TABLE result_tables (
    table_name         TEXT PRIMARY KEY,
    source_id          TEXT NOT NULL,
    model_id           TEXT NOT NULL,
    task               TEXT NOT NULL,
    parquet_path       TEXT NOT NULL,
    index_path         TEXT,
    dimensions         INTEGER,
    distance_metric    TEXT DEFAULT 'cosine',
    row_count          INTEGER NOT NULL DEFAULT 0,
    status             TEXT NOT NULL DEFAULT 'building',
    key_column         TEXT,
    text_columns       TEXT,
    checkpoint         INTEGER,
    created_at         TEXT NOT NULL DEFAULT (CAST(CURRENT_TIMESTAMP AS TEXT)),
    completed_at       TEXT,
    tenant_id          TEXT,
    kind               TEXT NOT NULL DEFAULT 'model',
    derived_from       TEXT REFERENCES result_tables(table_name),
    definition_hash    TEXT,
    input_anchors_json TEXT
);
CREATE INDEX idx_result_tables_source ON result_tables(source_id);
CREATE INDEX idx_result_tables_task ON result_tables(task);
CREATE INDEX idx_result_tables_status ON result_tables(status);
CREATE INDEX idx_result_tables_tenant ON result_tables(tenant_id);
CREATE INDEX idx_result_tables_kind ON result_tables(kind);
CREATE INDEX idx_result_tables_definition_hash ON result_tables(definition_hash);

CREATE TABLE mutable_tables (
    id            TEXT PRIMARY KEY,
    schema_json   TEXT NOT NULL,
    primary_key   TEXT NOT NULL,
    tenant_id     TEXT,
    user_metadata TEXT NOT NULL DEFAULT '{}',
    backend_kind  TEXT NOT NULL,
    created_at    TEXT NOT NULL DEFAULT (CAST(CURRENT_TIMESTAMP AS TEXT)),
    updated_at    TEXT NOT NULL DEFAULT (CAST(CURRENT_TIMESTAMP AS TEXT)),
    order_column  TEXT
);
CREATE INDEX idx_mutable_tables_tenant ON mutable_tables(tenant_id);

CREATE TABLE mutable_table_indexes (
    table_id   TEXT NOT NULL REFERENCES mutable_tables(id) ON DELETE CASCADE,
    index_name TEXT NOT NULL,
    columns    TEXT NOT NULL,
    is_unique  BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (table_id, index_name)
);

CREATE TABLE topics (
    topic_id        TEXT PRIMARY KEY,
    name            TEXT NOT NULL,
    schema_json     TEXT NOT NULL,
    tenant_id       TEXT,
    broker_metadata TEXT NOT NULL DEFAULT '{}',
    backing_table   TEXT NOT NULL UNIQUE REFERENCES mutable_tables(id) ON DELETE RESTRICT,
    created_at      TEXT NOT NULL DEFAULT (CAST(CURRENT_TIMESTAMP AS TEXT)),
    UNIQUE (name, tenant_id)
);
CREATE INDEX idx_topics_tenant ON topics(tenant_id);
CREATE INDEX idx_topics_name ON topics(name);

CREATE TABLE eval_runs (
    run_id        TEXT PRIMARY KEY,
    model_id      TEXT REFERENCES models(model_id),
    eval_type     TEXT NOT NULL,
    source_id     TEXT,
    metrics       TEXT NOT NULL,
    config        TEXT,
    created_at    TEXT NOT NULL DEFAULT (CAST(CURRENT_TIMESTAMP AS TEXT)),
    golden_source TEXT,
    k             INTEGER,
    status        TEXT NOT NULL DEFAULT 'completed',
    tenant_id     TEXT
);
CREATE INDEX idx_eval_runs_model ON eval_runs(model_id);
CREATE INDEX idx_eval_runs_type ON eval_runs(eval_type);
CREATE INDEX idx_eval_runs_created ON eval_runs(created_at);
CREATE INDEX idx_eval_runs_tenant ON eval_runs(tenant_id);

CREATE TABLE _jammi_eval_per_query (
    eval_run_id TEXT NOT NULL,
    query_id    TEXT NOT NULL,
    cohorts     TEXT NOT NULL DEFAULT '{}',
    metrics     TEXT NOT NULL,
    tenant_id   TEXT,
    PRIMARY KEY (eval_run_id, query_id)
);
CREATE INDEX idx_eval_per_query_run ON _jammi_eval_per_query(eval_run_id);
CREATE INDEX idx_eval_per_query_tenant ON _jammi_eval_per_query(tenant_id);

CREATE TABLE evidence_channels (
    tenant_id    TEXT,
    channel_name TEXT NOT NULL,
    priority     INTEGER NOT NULL,
    created_at   TEXT NOT NULL DEFAULT (CAST(CURRENT_TIMESTAMP AS TEXT)),
    UNIQUE (tenant_id, channel_name)
);
CREATE INDEX idx_evidence_channels_tenant ON evidence_channels(tenant_id);
CREATE UNIQUE INDEX idx_evidence_channels_global_name
    ON evidence_channels(channel_name) WHERE tenant_id IS NULL;
INSERT INTO evidence_channels (channel_name, priority) VALUES
    ('vector', 1),
    ('inference', 2),
    ('bm25', 3);

CREATE TABLE evidence_channel_columns (
    tenant_id    TEXT,
    channel_name TEXT NOT NULL,
    column_name  TEXT NOT NULL,
    column_type  TEXT NOT NULL,
    ordinal      INTEGER NOT NULL,
    declared_at  TEXT NOT NULL DEFAULT (CAST(CURRENT_TIMESTAMP AS TEXT)),
    UNIQUE (tenant_id, channel_name, column_name),
    FOREIGN KEY (tenant_id, channel_name) REFERENCES evidence_channels(tenant_id, channel_name)
);
CREATE UNIQUE INDEX idx_channel_cols_ordinal
    ON evidence_channel_columns(tenant_id, channel_name, ordinal);
INSERT INTO evidence_channel_columns (channel_name, column_name, column_type, ordinal) VALUES
    ('vector', 'similarity', 'Float32', 0),
    ('inference', 'inference_model', 'Utf8', 0),
    ('inference', 'inference_task', 'Utf8', 1),
    ('inference', 'inference_confidence', 'Float32', 2),
    ('bm25', 'bm25_score', 'Float32', 0),
    ('bm25', 'bm25_rank', 'Int64', 1);
