//! Systems Manager as it is heard and spoken.
