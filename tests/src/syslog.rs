//! Real syslog servers from Debian, started on a free port where they are installed.

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Delivered;
use crate::http_server::dawdle;

/// They start in a blink on a quiet machine, and end as soon as they have written what they have.
const LONGEST: Duration = Duration::from_mins(2);

/// Which server.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// `apt-get install rsyslog`.
    Rsyslog,
    /// `apt-get install rsyslog rsyslog-gnutls`: the same with TLS, certified by the test fixtures.
    RsyslogTls,
    /// `apt-get install syslog-ng-core`.
    SyslogNg,
}

/// A server that writes the messages it gets into a file, each as a line.
pub struct Syslog {
    kind: Kind,
    program: PathBuf,
    folder: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl Syslog {
    /// Starts one with its files in `folder`; the error says why there is none.
    ///
    /// # Errors
    /// When the program is not installed.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(kind: Kind, folder: &Path) -> Result<Self, String> {
        let name = match kind {
            Kind::Rsyslog | Kind::RsyslogTls => "rsyslogd",
            Kind::SyslogNg => "syslog-ng",
        };
        let program = find(name).ok_or_else(|| format!("`{name}` is not installed"))?;
        let modules =
            Path::new("/usr/lib").join(format!("{}-linux-gnu/rsyslog", std::env::consts::ARCH));
        if matches!(kind, Kind::RsyslogTls) && !modules.join("lmnsd_gtls.so").is_file() {
            return Err("`rsyslog-gnutls` is not installed".into());
        }
        let taken = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
        let port = taken
            .local_addr()
            .map_err(|error| error.to_string())?
            .port();
        drop(taken);
        let mut server = Self {
            kind,
            program,
            folder: folder.to_owned(),
            port,
            child: None,
        };
        server.start_again();
        Ok(server)
    }

    /// Its host and port.
    pub fn address(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// Starts it on its port, and waits until it listens.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_again(&mut self) {
        let config = self.folder.join("syslog.conf");
        std::fs::write(&config, self.config()).expect("a test may write into its own folder");
        let log = File::options()
            .append(true)
            .create(true)
            .open(self.folder.join("syslog.log"));
        let log = log.expect("a test may write into its own folder");
        let mut command = Command::new(&self.program);
        let at = |name: &str| self.folder.join(name);
        match self.kind {
            Kind::Rsyslog | Kind::RsyslogTls => command
                .arg("-n")
                .arg("-f")
                .arg(&config)
                .arg("-i")
                .arg(at("syslog.pid")),
            Kind::SyslogNg => command
                .args(["-F", "--no-caps", "-f"])
                .arg(&config)
                .arg("-R")
                .arg(at("syslog.persist"))
                .arg("-p")
                .arg(at("syslog.pid"))
                .arg("-c")
                .arg(at("syslog.ctl")),
        };
        let errors = log.try_clone().expect("a file can be shared");
        let child = command
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn();
        self.child = Some(child.expect("the server can be started"));
        let since = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let said = std::fs::read_to_string(at("syslog.log")).unwrap_or_default();
            assert!(
                since.elapsed() < LONGEST,
                "{:?} does not listen: {said}",
                self.kind
            );
            dawdle(Duration::from_millis(20));
        }
    }

    /// Asks it to end, and waits until it has.
    ///
    /// # Panics
    /// When it does not end.
    pub fn stop(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        let asked = Command::new("kill").arg(child.id().to_string()).status();
        asked.expect("a machine that runs tests has `kill`");
        let since = Instant::now();
        while child
            .try_wait()
            .expect("our own child can be waited for")
            .is_none()
        {
            if since.elapsed() > LONGEST {
                let _ = child.kill();
                panic!("{:?} does not end", self.kind);
            }
            dawdle(Duration::from_millis(10));
        }
    }

    /// What it has written.
    ///
    /// # Panics
    /// When a line is not JSON.
    pub fn delivered(&self) -> Delivered {
        Delivered::parse(&std::fs::read(self.file()).unwrap_or_default())
    }

    /// Asks it to end, or starts it again.
    ///
    /// # Panics
    /// When it does not.
    pub fn switch(&mut self, on: bool) {
        if on {
            self.start_again();
        } else {
            self.stop();
        }
    }

    /// How many bytes it has written.
    pub fn written(&self) -> u64 {
        std::fs::metadata(self.file()).map_or(0, |file| file.len())
    }

    fn file(&self) -> PathBuf {
        self.folder.join("syslog.messages")
    }

    fn config(&self) -> String {
        let (port, file, folder) = (self.port, self.file(), &self.folder);
        let (file, folder) = (file.display(), folder.display());
        let (mut certificate, mut driver) = (String::new(), "");
        if matches!(self.kind, Kind::RsyslogTls) {
            let auth = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/auth");
            let auth = auth.display();
            certificate = format!(
                "defaultNetstreamDriver=\"gtls\" defaultNetstreamDriverCAFile=\"{auth}/server.pem\" \
                 defaultNetstreamDriverCertFile=\"{auth}/server.pem\" \
                 defaultNetstreamDriverKeyFile=\"{auth}/server.key\""
            );
            driver =
                "streamDriver.name=\"gtls\" streamDriver.mode=\"1\" streamDriver.authMode=\"anon\"";
        }
        match self.kind {
            Kind::Rsyslog | Kind::RsyslogTls => format!(
                "global(maxMessageSize=\"1m\" workDirectory=\"{folder}\" {certificate})\n\
                 module(load=\"imtcp\" {driver})\n\
                 input(type=\"imtcp\" address=\"127.0.0.1\" port=\"{port}\")\n\
                 template(name=\"raw\" type=\"string\" string=\"%msg%\\n\")\n\
                 action(type=\"omfile\" file=\"{file}\" template=\"raw\")\n"
            ),
            Kind::SyslogNg => format!(
                "@version: 3.35\n\
                 options {{ log-msg-size(1048576); stats-freq(0); }};\n\
                 source s {{ syslog(ip(127.0.0.1) port({port}) transport(\"tcp\")); }};\n\
                 destination d {{ file(\"{file}\" template(\"$MSG\\n\")); }};\n\
                 log {{ source(s); destination(d); flags(flow-control); }};\n"
            ),
        }
    }
}

impl Drop for Syslog {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A program on the path, or where Debian keeps servers.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
}
