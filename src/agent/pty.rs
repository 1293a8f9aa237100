//! The terminal of a run whose caller has one.
//!
//! It becomes the controlling terminal of the supervisor's session, and the command a process group in its foreground, whose
//! parent lives in the same session: so that Ctrl-Z stops it (the kernel lets no orphaned group be stopped from a terminal).

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, SpecialCodeIndex, tcgetattr, tcsetattr, tcsetpgrp, tcsetwinsize};

use crate::tty::{Size, Terminal};

/// Signals that the terminal sends to its session and that the supervisor must not die or stop of.
const OF_TERMINALS: [i32; 6] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
];

/// A terminal, seen from the side of whoever sits at it.
pub struct Pty {
    master: File,
    /// The command's side; held until the command ends, or a moment in which nobody else has it open would look like the end.
    slave: OwnedFd,
}

impl Pty {
    /// Makes the terminal that `spec` describes and takes it as this session's own.
    ///
    /// # Errors
    /// When the system has none left, or this process leads no session.
    pub fn open(spec: &Terminal) -> io::Result<Pty> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
        rustix::io::fcntl_setfd(&master, rustix::io::FdFlags::CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let name: CString = ptsname(&master, Vec::new())?;
        let slave = rustix::fs::open(
            name,
            rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        )?;
        let mut modes = tcgetattr(&slave)?;
        spec.modes.apply(&mut modes);
        tcsetattr(&slave, OptionalActions::Now, &modes)?;
        tcsetwinsize(&slave, spec.size.into())?;
        for signal in OF_TERMINALS {
            // SAFETY: ignoring a signal runs no code of ours.
            unsafe { libc::signal(signal, libc::SIG_IGN) };
        }
        rustix::process::ioctl_tiocsctty(&slave)?;
        Ok(Pty {
            master: File::from(master),
            slave,
        })
    }

    /// The command's side, for one of its descriptors.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn slave(&self) -> io::Result<OwnedFd> {
        self.slave.try_clone()
    }

    /// The other side, to read and write.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn master(&self) -> io::Result<File> {
        self.master.try_clone()
    }

    /// What a command that is about to start must do: take the foreground, and the signals' default actions again.
    pub fn in_child(&self) -> impl FnMut() -> io::Result<()> + Send + Sync + 'static {
        let slave = self.slave.as_raw_fd();
        move || {
            // SAFETY: between fork and exec; all three are async-signal-safe, and the descriptor was open at the fork. SIGTTOU
            // is still ignored, or taking the foreground from the background would stop this process.
            unsafe {
                if libc::tcsetpgrp(slave, libc::getpid()) != 0 {
                    return Err(io::Error::last_os_error());
                }
                for signal in OF_TERMINALS {
                    libc::signal(signal, libc::SIG_DFL);
                }
            }
            Ok(())
        }
    }

    /// The window at the other end has another size; the foreground gets SIGWINCH.
    pub fn resize(&self, size: Size) {
        let _ = tcsetwinsize(&self.master, size.into());
    }

    /// The characters that mean the end of input.
    pub fn end_of_input(&self) -> u8 {
        tcgetattr(self.master.as_fd()).map_or(4, |t| t.special_codes[SpecialCodeIndex::VEOF])
    }

    /// The command has ended: what it left in the background must not be hung up on when the terminal goes.
    pub fn leave(self) -> File {
        let _ = tcsetpgrp(&self.slave, rustix::process::getpgrp());
        self.master
    }
}
