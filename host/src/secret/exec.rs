//! A secret from a command: what it prints on standard output, such as a vault's own tool does.
//!
//! The command is run directly, never by a shell, so nothing in its words is interpreted. It gets no input; what it
//! says on standard error is thrown away, since it may say anything. One that takes too long is killed.

use std::io::{ErrorKind, Read as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::{MOST_BYTES, Trouble, plain, text};

/// How often it is looked whether a command that has closed its output has ended, too.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Runs a command and returns what it printed.
pub(super) fn run(words: &[String], timeout: Duration) -> Result<String, Trouble> {
    // Waiting for a command must not keep other tasks of this thread waiting; where there are no others, it may.
    let many = tokio::runtime::Handle::try_current().is_ok_and(|runtime| {
        runtime.runtime_flavor() == tokio::runtime::RuntimeFlavor::MultiThread
    });
    if many {
        tokio::task::block_in_place(|| run_here(words, timeout))
    } else {
        run_here(words, timeout)
    }
}

fn run_here(words: &[String], timeout: Duration) -> Result<String, Trouble> {
    let Some((program, arguments)) = words.split_first() else {
        return Err(("`exec` names no command".into(), "name one"));
    };
    let deadline = Instant::now() + timeout;
    let started = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut child = started.map_err(|error| {
        let help = match error.kind() {
            ErrorKind::NotFound => "check the name; `PATH` is searched for one without a slash",
            _ => "let this user run the command",
        };
        (format!("cannot run `{program}`: {}", plain(&error)), help)
    })?;
    let ended = output(&mut child, deadline);
    if ended.is_none() {
        // It may have ended a moment ago.
        let _ = child.kill();
        let _ = child.wait();
    }
    let Some((bytes, status)) = ended else {
        let seconds = timeout.as_secs_f64();
        let what = format!("command `{program}` has not ended after {seconds} s");
        return Err((what, "find out what it waits for, or raise `timeout`"));
    };
    // First: whoever still prints when nobody reads is ended by that.
    if bytes.len() as u64 > MOST_BYTES {
        let what = format!("command `{program}` printed more than {MOST_BYTES} bytes");
        return Err((
            what,
            "a secret has at most 64KiB; is this the right command?",
        ));
    }
    if !status.success() {
        let what = format!("command `{program}` failed: {status}");
        return Err((what, "run it by hand as this user to see why"));
    }
    text(bytes).ok_or_else(|| {
        let what = format!("what command `{program}` printed is not UTF-8 text");
        (what, "have it print the secret as plain text")
    })
}

/// All that a command prints, and how it ended; `None` when it takes too long.
fn output(child: &mut Child, deadline: Instant) -> Option<(Vec<u8>, ExitStatus)> {
    let pipe = child.stdout.take()?;
    let (sender, printed) = mpsc::channel();
    // A process of the command's own may hold the pipe open for ever, so nobody waits for this thread.
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error is all there is.
        let _ = pipe.take(MOST_BYTES + 1).read_to_end(&mut bytes);
        let _ = sender.send(bytes);
    });
    let left = || deadline.saturating_duration_since(Instant::now());
    let bytes = printed.recv_timeout(left()).ok()?;
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Some((bytes, status));
        }
        if left().is_zero() {
            return None;
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "this thread has nothing else to do"
        )]
        std::thread::sleep(LOOK_EVERY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn run_for(words_: &[&str], millis: u64) -> Result<String, Trouble> {
        run(&words(words_), Duration::from_millis(millis))
    }

    #[tokio::test]
    async fn what_a_command_prints_is_the_secret_and_no_shell_sees_it() {
        assert_eq!(run_for(&["echo", "s3cret"], 60_000).unwrap(), "s3cret");
        let text = "$(id) `id` $HOME; *";
        assert_eq!(run_for(&["echo", text], 60_000).unwrap(), text);
        assert_eq!(run_for(&["printf", "%s", "a\n\n"], 60_000).unwrap(), "a\n");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_command_that_fails_hangs_or_babbles_is_an_error_without_its_words() {
        let failed = run_for(
            &["sh", "-c", "echo s3cret; echo s3cret >&2; exit 3"],
            60_000,
        );
        let (what, _) = failed.unwrap_err();
        assert!(what.contains("`sh` failed: exit status: 3"), "{what}");
        assert!(!what.contains("s3cret"), "{what}");
        let (what, _) = run_for(&["sleep", "600"], 50).unwrap_err();
        assert!(what.contains("has not ended after 0.05 s"), "{what}");
        // What it leaves behind may hold its output open.
        let (what, _) = run_for(&["sh", "-c", "sleep 5 & exit 0"], 50).unwrap_err();
        assert!(what.contains("has not ended"), "{what}");
        let (what, _) = run_for(&["head", "-c", "70000", "/dev/zero"], 60_000).unwrap_err();
        assert!(what.contains("more than 65536 bytes"), "{what}");
        let (what, _) = run_for(&["printf", "\\377"], 60_000).unwrap_err();
        assert!(what.contains("not UTF-8"), "{what}");
        let (what, help) = run_for(&["nobody-has-this-command"], 60_000).unwrap_err();
        assert!(
            what.contains("cannot run `nobody-has-this-command`"),
            "{what}"
        );
        assert!(help.contains("PATH"), "{help}");
    }
}
