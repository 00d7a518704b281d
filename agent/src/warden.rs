//! Holds the line on one node, whether or not anyone else is there.
