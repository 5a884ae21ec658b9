//! Java programs from Maven Central, fetched once.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// An artifact.
#[derive(Clone, Copy, Debug)]
pub struct Artifact {
    /// Who publishes it.
    pub group: &'static str,
    /// What it is called.
    pub name: &'static str,
    /// Which one.
    pub version: &'static str,
}

/// The folder below `cache` with its jar and all that it needs, fetched with `mvn` unless they are there.
///
/// # Errors
/// Says why they cannot be had.
pub fn jars(cache: &Path, artifact: Artifact) -> Result<PathBuf, String> {
    /// Tests run side by side, and want the same.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let Artifact {
        group,
        name,
        version,
    } = artifact;
    let cache = cache.join(format!("{name}-{version}"));
    let (jars, partial) = (cache.join("jars"), cache.join("partial"));
    if jars.exists() {
        return Ok(jars);
    }
    let pom = format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>\n\
         <groupId>sluicegate</groupId><artifactId>tests</artifactId><version>1</version>\n\
         <dependencies><dependency><groupId>{group}</groupId><artifactId>{name}</artifactId>\n\
         <version>{version}</version></dependency></dependencies></project>\n"
    );
    std::fs::create_dir_all(&cache).map_err(|error| error.to_string())?;
    std::fs::write(cache.join("pom.xml"), pom).map_err(|error| error.to_string())?;
    let fetched = Command::new("mvn")
        .current_dir(&cache)
        .args(["-q", "-B", "dependency:copy-dependencies"])
        .arg(format!("-DoutputDirectory={}", partial.display()))
        .output()
        .map_err(|error| format!("mvn cannot be started: {error}"))?;
    if !fetched.status.success() {
        let said = String::from_utf8_lossy(&fetched.stdout);
        return Err(format!(
            "Maven Central cannot be had: {}",
            said.lines().next().unwrap_or_default()
        ));
    }
    std::fs::rename(&partial, &jars).map_err(|error| error.to_string())?;
    Ok(jars)
}
