//! Asks for hosts that were never granted, in every spelling, and forges credentials for those that were.

use sluicegate_fault::bindings::wasi::http::outgoing_handler;
use sluicegate_fault::bindings::wasi::http::types::{
    Fields, FutureIncomingResponse, IncomingResponse, OutgoingRequest, Scheme,
};
use sluicegate_fault::bindings::wasi::io::streams::StreamError;
use sluicegate_fault::{
    Discovery, Failure, Limits, Plugin, Split, emit, events, found, mode, split, text,
};

struct DialOut;

/// Header names that a plugin may not set, whatever the host sends itself.
const FORGED: [&str; 6] = [
    "authorization",
    "Authorization",
    "proxy-authorization",
    "cookie",
    "host",
    "transfer-encoding",
];

/// Header values that would split a request in two.
const SMUGGLED: [&[u8]; 3] = [b"a\r\nx-injected: 1", b"a\nb", b"a\0b"];

fn get(scheme: Scheme, authority: &str, path: &str) -> Result<u16, String> {
    Ok(ask(scheme, authority, path)?.status())
}

/// Sends a request and drops every handle of it, half of them with the answer unread.
fn abandon(authority: &str) -> Result<(), String> {
    drop(begin(Scheme::Http, authority, "/slow")?);
    drop(ask(Scheme::Http, authority, "/foreign")?);
    Ok(())
}

/// Reads an answer to its end, and says how long it was.
fn body(authority: &str, path: &str) -> Result<u64, String> {
    let response = ask(Scheme::Http, authority, path)?;
    let body = response.consume().map_err(|()| "no body".to_owned())?;
    let stream = body.stream().map_err(|()| "no stream".to_owned())?;
    let mut length = 0;
    loop {
        match stream.blocking_read(64 << 10) {
            Ok(piece) => length += piece.len() as u64,
            Err(StreamError::Closed) => return Ok(length),
            Err(StreamError::LastOperationFailed(error)) => return Err(error.to_debug_string()),
        }
    }
}

fn ask(scheme: Scheme, authority: &str, path: &str) -> Result<IncomingResponse, String> {
    let future = begin(scheme, authority, path)?;
    future.subscribe().block();
    match future.get() {
        Some(Ok(Ok(response))) => Ok(response),
        Some(Ok(Err(error))) => Err(format!("{error:?}")),
        other => Err(format!("{other:?}")),
    }
}

fn begin(scheme: Scheme, authority: &str, path: &str) -> Result<FutureIncomingResponse, String> {
    let request = OutgoingRequest::new(Fields::new());
    let set = |ok: Result<(), ()>, what: &str| ok.map_err(|()| format!("{what} refused"));
    set(request.set_scheme(Some(&scheme)), "scheme")?;
    set(request.set_authority(Some(authority)), "authority")?;
    set(request.set_path_with_query(Some(path)), "path")?;
    outgoing_handler::handle(request, None).map_err(|error| format!("{error:?}"))
}

impl Plugin for DialOut {
    const NAME: &'static str = "dial_out";

    fn discover(config: &str, _: Limits) -> Result<Discovery, Failure> {
        Ok(found(match mode(config) {
            // Beside the one that hangs there is one that does not.
            "drip" => vec![split("one"), split("honest")],
            _ => vec![split("one")],
        }))
    }

    fn read(config: &str, read: Split, _: Limits) -> Result<(), Failure> {
        let granted = text(config, "granted");
        let foreign = text(config, "foreign");
        match mode(config) {
            "forge" => {
                let fields = Fields::new();
                for name in FORGED {
                    if fields.set(name, &[b"Bearer forged".to_vec()]).is_ok() {
                        return Err(Failure::Internal(format!("took the forged `{name}`")));
                    }
                }
                for value in SMUGGLED {
                    if fields.append("x-plain", value).is_ok() {
                        return Err(Failure::Internal(format!("took the value {value:?}")));
                    }
                }
                match get(Scheme::Http, granted, "/") {
                    Ok(_) => emit(&events(&["forged-nothing"])).map_err(Failure::Internal),
                    Err(error) => Err(Failure::Internal(error)),
                }
            }
            "tricks" => {
                let port = granted.rsplit(':').next().unwrap_or_default();
                let host = granted.split(':').next().unwrap_or_default();
                let tricks = [
                    format!("{granted}@{foreign}"),
                    format!("{host}.example.net:{port}"),
                    format!("localhost:{port}"),
                    format!("2130706433:{port}"),
                    format!("[::ffff:127.0.0.1]:{port}"),
                    format!("{host}.:{port}"),
                    foreign.to_owned(),
                    "169.254.169.254".to_owned(),
                ];
                for trick in tricks {
                    if let Ok(status) = get(Scheme::Http, &trick, "/") {
                        return Err(Failure::Internal(format!("`{trick}` answered {status}")));
                    }
                }
                for scheme in [Scheme::Https, Scheme::Other("file".into())] {
                    if get(scheme, granted, "/etc/passwd").is_ok() {
                        return Err(Failure::Internal("another scheme was let through".into()));
                    }
                }
                emit(&events(&["tricked-nobody"])).map_err(Failure::Internal)
            }
            "requests" => loop {
                if let Err(error) = get(Scheme::Http, granted, "/") {
                    return Err(Failure::Internal(error));
                }
            },
            "drip" if read.id == "honest" => {
                emit(&events(&["beside-the-slow"])).map_err(Failure::Internal)
            }
            "bomb" => match body(granted, "/bomb") {
                Ok(bytes) => Err(Failure::Internal(format!("{bytes} bytes and an end"))),
                Err(error) => Err(Failure::Internal(error)),
            },
            "drip" => match body(granted, "/drip") {
                Ok(bytes) => Err(Failure::Internal(format!("{bytes} bytes and an end"))),
                Err(error) => Err(Failure::Internal(error)),
            },
            "redirect" => {
                for path in ["/foreign", "/metadata", "/loop"] {
                    match get(Scheme::Http, granted, path) {
                        Ok(302 | 307 | 308) => {}
                        other => return Err(Failure::Internal(format!("{path}: {other:?}"))),
                    }
                }
                emit(&events(&["went-nowhere"])).map_err(Failure::Internal)
            }
            "abandon" => {
                for _ in 0..400 {
                    abandon(granted).map_err(Failure::Internal)?;
                }
                emit(&events(&["abandoned-all"])).map_err(Failure::Internal)
            }
            _ => match get(Scheme::Http, foreign, "/steal?data=1") {
                Ok(status) => Err(Failure::Internal(format!(
                    "a foreign host answered {status}"
                ))),
                Err(error) => Err(Failure::Internal(error)),
            },
        }
    }
}

sluicegate_fault::bindings::export!(DialOut);
