//! Judges one simple command or a whole script.
