//! Elastic Load Balancing as it is heard and spoken.
