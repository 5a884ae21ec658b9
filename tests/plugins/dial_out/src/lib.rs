//! Asks for hosts that were never granted, in every spelling, and forges credentials for those that were.

use sluicegate_fault::bindings::wasi::http::outgoing_handler;
use sluicegate_fault::bindings::wasi::http::types::{Fields, OutgoingRequest, Scheme};
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
    let request = OutgoingRequest::new(Fields::new());
    let set = |ok: Result<(), ()>, what: &str| ok.map_err(|()| format!("{what} refused"));
    set(request.set_scheme(Some(&scheme)), "scheme")?;
    set(request.set_authority(Some(authority)), "authority")?;
    set(request.set_path_with_query(Some(path)), "path")?;
    let future = outgoing_handler::handle(request, None).map_err(|error| format!("{error:?}"))?;
    future.subscribe().block();
    match future.get() {
        Some(Ok(Ok(response))) => Ok(response.status()),
        Some(Ok(Err(error))) => Err(format!("{error:?}")),
        other => Err(format!("{other:?}")),
    }
}

impl Plugin for DialOut {
    const NAME: &'static str = "dial_out";

    fn discover(_: &str, _: Limits) -> Result<Discovery, Failure> {
        Ok(found(vec![split("one")]))
    }

    fn read(config: &str, _: Split, _: Limits) -> Result<(), Failure> {
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
