//! Serves a simulated office on loopback until it is interrupted, and prints a pipeline to run
//! against it.
//!
//! `cargo run -p sluicegate-office --example office -- --tenants 2 --blobs 200 --fault
//! truncate=0.05`

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use sluicegate_office::{Clock, ContentType, Fault, Faults, Office, Pool, Server};

type Failure = Box<dyn Error>;

const HELP: &str = "\
office [FLAGS]
  --port N          where to listen on 127.0.0.1 (default: a free port)
  --tenants N       (1)          --blobs N        blobs of each tenant (100)
  --events N        records of a blob (50)       --types A,B   content types (all five)
  --span-hours N    time before now over which the blobs are spread (24)
  --later N         so many more blobs of each tenant, over the next ten minutes (0)
  --latency-ms N    (0)          --page-size N    (20)
  --seed N          (1)          --token-life-s N (3599)
  --rate N          requests per minute before AF429 answers (no limit)
  --records FILE    serve these records (NDJSON), each once; may be given again
  --subscribed      subscriptions are already enabled
  --swarm N         faults drawn from this seed
  --fault NAME=RATE may be given again; --faults lists the names
  --wrong-secret N  this tenant's secret is not the one in the pipeline
  --write DIR       write pipeline.yaml and the secrets there instead of printing them
  --seconds N       stop by itself after this time";

struct Options {
    port: u16,
    tenants: u16,
    blobs: u32,
    events: u32,
    types: Vec<ContentType>,
    span_hours: u64,
    later: u32,
    latency_ms: u64,
    page_size: u32,
    seed: u64,
    token_life_s: u64,
    faults: Faults,
    pool: Option<Pool>,
    subscribed: bool,
    wrong_secret: Option<usize>,
    write: Option<String>,
    seconds: Option<u64>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            port: 0,
            tenants: 1,
            blobs: 100,
            events: 50,
            types: ContentType::ALL.to_vec(),
            span_hours: 24,
            later: 0,
            latency_ms: 0,
            page_size: 20,
            seed: 1,
            token_life_s: 3_599,
            faults: Faults::none(),
            pool: None,
            subscribed: false,
            wrong_secret: None,
            write: None,
            seconds: None,
        }
    }
}

fn main() -> Result<(), Failure> {
    let Some(options) = read(std::env::args().skip(1))? else {
        return Ok(());
    };
    tokio::runtime::Runtime::new()?.block_on(serve(options))
}

async fn serve(mut options: Options) -> Result<(), Failure> {
    let clock = Clock::system();
    let mut builder = Office::builder(options.seed)
        .tenants(options.tenants)
        .blobs(options.blobs)
        .events_per_blob(options.events)
        .content_types(&options.types)
        .span(Duration::from_hours(options.span_hours))
        .later(options.later, Duration::from_mins(10))
        .latency(Duration::from_millis(options.latency_ms))
        .page_size(options.page_size)
        .token_life(Duration::from_secs(options.token_life_s))
        .faults(options.faults.clone());
    if let Some(pool) = options.pool.take() {
        builder = builder.records(pool);
    }
    if options.subscribed {
        builder = builder.subscribed();
    }
    let office = builder.build(clock.now_ms());
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, options.port));
    let server = Server::start_with(office, address, clock).await?;
    show(&server, &options)?;
    let interrupted = tokio::signal::ctrl_c();
    match options.seconds {
        Some(seconds) => {
            let _ = tokio::time::timeout(Duration::from_secs(seconds), interrupted).await;
        }
        None => interrupted.await?,
    }
    eprintln!("{}", server.office(|office, _| office.stats().to_json()));
    Ok(())
}

fn show(server: &Server, options: &Options) -> Result<(), Failure> {
    let (yaml, secrets) = server.office(|office, _| pipeline(office, &options.types));
    if let Some(wrong) = options.wrong_secret {
        server.office(|office, _| office.tenant_mut(wrong).client_secret.push('!'));
    }
    match &options.write {
        None => {
            println!("{yaml}");
            for (name, secret) in &secrets {
                println!("# export {name}='{secret}'");
            }
        }
        Some(directory) => {
            let directory = Path::new(directory);
            std::fs::create_dir_all(directory)?;
            std::fs::write(directory.join("pipeline.yaml"), yaml)?;
            let lines: Vec<String> = secrets
                .iter()
                .map(|(name, secret)| format!("export {name}='{secret}'\n"))
                .collect();
            std::fs::write(directory.join("secrets.env"), lines.concat())?;
        }
    }
    let owed = server.office(|office, now| office.oracle(now).owed());
    eprintln!("office   {}", server.resource_url);
    eprintln!(
        "control  {}/_mock/stats, /_mock/oracle ({owed} events owed)",
        server.control_url
    );
    Ok(())
}

/// A pipeline for the office's tenants, and the secrets it refers to.
fn pipeline(office: &Office, types: &[ContentType]) -> (String, Vec<(String, String)>) {
    let names: Vec<&str> = types.iter().map(|kind| kind.name()).collect();
    let mut yaml = format!(
        "source:\n  plugin: o365\n  config:\n    content_types: [{}]\n  tenants:\n",
        names.join(", ")
    );
    let mut secrets = Vec::new();
    for tenant in office.tenants() {
        let variable = format!("{}_SECRET", tenant.name.replace('-', "_").to_uppercase());
        let lines = [
            format!("    - id: {}", tenant.name),
            "      auth:".into(),
            "        microsoft:".into(),
            "          cloud: custom".into(),
            format!("          login_url: {}", office.login_url()),
            format!("          resource_url: {}", office.resource_url()),
            format!("          directory_id: {}", tenant.directory_id),
            format!("          client_id: {}", tenant.client_id),
            format!("          client_secret: {{ env: {variable} }}"),
        ];
        yaml.push_str(&lines.join("\n"));
        yaml.push('\n');
        secrets.push((variable, tenant.client_secret.clone()));
    }
    yaml.push_str("sinks:\n  - stdout: {}\n");
    (yaml, secrets)
}

fn read(mut arguments: impl Iterator<Item = String>) -> Result<Option<Options>, Failure> {
    let mut options = Options::default();
    while let Some(flag) = arguments.next() {
        match &*flag {
            "--help" | "-h" => {
                println!("{HELP}");
                return Ok(None);
            }
            "--faults" => {
                for fault in Fault::ALL {
                    println!(
                        "{:22} {:?}: {}",
                        fault.name(),
                        fault.scope(),
                        fault.description()
                    );
                }
                return Ok(None);
            }
            "--subscribed" => options.subscribed = true,
            _ => {
                let value = arguments
                    .next()
                    .ok_or_else(|| format!("{flag} wants a value"))?;
                options
                    .set(&flag, &value)
                    .map_err(|e| format!("{flag} {value}: {e}"))?;
            }
        }
    }
    Ok(Some(options))
}

impl Options {
    fn set(&mut self, flag: &str, value: &str) -> Result<(), Failure> {
        match flag {
            "--port" => self.port = value.parse()?,
            "--tenants" => self.tenants = value.parse()?,
            "--blobs" => self.blobs = value.parse()?,
            "--events" => self.events = value.parse()?,
            "--span-hours" => self.span_hours = value.parse()?,
            "--later" => self.later = value.parse()?,
            "--latency-ms" => self.latency_ms = value.parse()?,
            "--page-size" => self.page_size = value.parse()?,
            "--seed" => self.seed = value.parse()?,
            "--token-life-s" => self.token_life_s = value.parse()?,
            "--rate" => self.faults.requests_per_minute = Some(value.parse()?),
            "--wrong-secret" => self.wrong_secret = Some(value.parse()?),
            "--seconds" => self.seconds = Some(value.parse()?),
            "--swarm" => self.faults = Faults::swarm(value.parse()?),
            "--fault" => self.faults.read(value)?,
            "--write" => self.write = Some(value.to_owned()),
            "--types" => self.types = types(value)?,
            "--records" => {
                let pool = Pool::from_ndjson(&std::fs::read(value)?)?;
                self.pool = Some(self.pool.take().unwrap_or_default().and(pool));
            }
            _ => return Err("unknown flag; --help lists them".into()),
        }
        Ok(())
    }
}

fn types(value: &str) -> Result<Vec<ContentType>, Failure> {
    let read = |name: &str| {
        ContentType::from_name(name).ok_or_else(|| format!("unknown content type `{name}`").into())
    };
    value.split(',').map(read).collect()
}
