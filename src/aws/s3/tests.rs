//! S3 as it is heard and spoken.
