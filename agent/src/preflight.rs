//! The requirements that Loadline has of a host, satisfied and missed, by name.
