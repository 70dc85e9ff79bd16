"""An Arrow and Parquet native file catalog for materialised ML results."""
