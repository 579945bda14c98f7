use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Stdio};

use crate::Error;
use crate::account::Account;
use crate::home::Home;

/// Reads process ids: the last one counts, an empty line means none. At the end of input, whether
/// the owner let go or was killed, what is still there is cleaned up.
const SCRIPT: &str = r#"
pid=
while read -r line; do pid=$line; done
if [ -n "$pid" ] && kill -QUIT "$pid" 2>/dev/null; then
    tries=0
    while kill -0 "$pid" 2>/dev/null && [ "$tries" -lt 100 ]; do
        tries=$((tries + 1))
        sleep 0.1
    done
    kill -KILL "$pid" 2>/dev/null
fi
tries=0
until rm -rf -- "$1" || [ "$tries" -ge 10 ]; do
    tries=$((tries + 1))
    sleep 0.1
done
"#;

/// A process that outlives a killed owner just long enough to clean up after it.
///
/// It holds the read end of a pipe whose only write end is in the owner, so the kernel tells it of
/// the owner's death however that came about. It runs as the server's account, and so can signal
/// nothing that does not belong to it.
#[derive(Debug)]
pub(crate) struct Guard {
    process: Child,
}

impl Guard {
    pub(crate) fn start(account: Account, home: &Home) -> Result<Self, Error> {
        let process = account
            .command(Path::new("/bin/sh"), Path::new("/"))
            .args(["-c", SCRIPT, "throwaway-postgres-guard"])
            .arg(home.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(Error::io("start the guard process"))?;
        Ok(Self { process })
    }

    /// Names the process to stop should the owner die.
    pub(crate) fn watch(&mut self, pid: u32) -> Result<(), Error> {
        self.tell(&pid.to_string())
    }

    /// The watched process has ended; its id may soon be somebody else's.
    pub(crate) fn forget(&mut self) -> Result<(), Error> {
        self.tell("")
    }

    fn tell(&mut self, line: &str) -> Result<(), Error> {
        let pipe = self
            .process
            .stdin
            .as_mut()
            .expect("stdin is piped at the start");
        writeln!(pipe, "{line}").map_err(Error::io("reach the guard process"))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Closes the pipe, and waits for what the guard still finds to do: usually nothing.
        let _ = self.process.wait();
    }
}
