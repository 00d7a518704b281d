//! What the warden must not forget: attempts with their orders, events, the applied generation.
