//! Keeps or drops events by the value of one field.
