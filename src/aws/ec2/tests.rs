//! EC2 as it is heard and spoken.
