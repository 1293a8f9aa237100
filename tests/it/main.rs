//! End-to-end tests: the real `cx` against real `sshd`s that the tests start themselves, each with a home of its own.

mod harness;
mod selftest;
