//! IAM as it is heard and spoken.
