//! A Prosody with our module, faked as far as an agent can see: it listens on an admin socket, reads
//! the data file as strictly as `docs/enforcement.md` allows a reader to, and answers.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    sync::watch,
    task::JoinHandle,
};

/// What the module has in force.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Held {
    pub generation: i64,
    pub digest: String,
    pub settings: Value,
    pub partners: BTreeMap<String, Value>,
    /// How many bases and deltas the file had when it was read last.
    pub bases: usize,
    pub deltas: usize,
    /// The applications that were refused.
    pub refused: usize,
}

/// The server that the module is in.
pub struct FakeModule {
    pub socket: PathBuf,
    pub data_file: PathBuf,
    pub held: watch::Receiver<Held>,
    /// What the next applications are refused with.
    refusal: Arc<Mutex<Option<String>>>,
    task: JoinHandle<()>,
}

impl FakeModule {
    /// A server in `folder` that has nothing in force, as after its start without a file.
    pub fn start(folder: &Path) -> Self {
        let (socket, data_file) = (folder.join("prosody.sock"), folder.join("partners.jsonl"));
        let _ = fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).unwrap();
        let (sender, held) = watch::channel(Held { generation: -1, ..Held::default() });
        let refusal = Arc::new(Mutex::new(None));
        let server = Server { data_file: data_file.clone(), sender, refusal: Arc::clone(&refusal) };
        let task = tokio::spawn(server.serve(listener));
        Self { socket, data_file, held, refusal, task }
    }

    /// Refuses everything with this reason; or nothing any more.
    pub fn refuse(&self, why: Option<&str>) {
        *self.refusal.lock().unwrap() = why.map(str::to_owned);
    }
}

impl Drop for FakeModule {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Server {
    data_file: PathBuf,
    sender: watch::Sender<Held>,
    refusal: Arc<Mutex<Option<String>>>,
}

impl Server {
    async fn serve(self, listener: UnixListener) {
        while let Ok((stream, _)) = listener.accept().await {
            self.answer(stream).await;
        }
    }

    async fn answer(&self, mut stream: UnixStream) {
        let mut text = String::new();
        let mut bytes = [0; 4_096];
        while !text.contains("/>") {
            let read = stream.read(&mut bytes).await.unwrap();
            if read == 0 {
                return;
            }
            text.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
        }
        let error = text.contains("<apply ").then(|| self.apply()).and_then(Result::err);
        let held = self.sender.borrow().clone();
        let answer = json!({
            "partnerd": 1, "result": if error.is_some() { "NACK" } else { "ACK" }, "error": error,
            "generation": held.generation, "digest": held.digest, "partners": held.partners.len(),
            "server": "Fake 1.0", "module": "1.0.0", "started_at": 1_795_400_000,
            "applied_at": 1_795_459_000, "closed": 2, "closed_total": 17,
            "sessions": [{ "domain": "contoso.com", "inbound": 1, "outbound": 1 }],
            "unenforced": [{ "property": "proxy_fqdn", "reason": "it is a fake", "partners": 1,
                             "examples": ["contoso.com"] }],
            "warnings": [], "stale": false,
        });
        let answer = answer.to_string().replace('&', "&amp;").replace('"', "&quot;");
        let answer = format!(
            "<stream:stream xmlns='xmpp:prosody.im/admin'>\
             <answer xmlns='urn:partnerd:enforcer:1'>{answer}</answer>"
        );
        // An agent that has gone meanwhile is no matter here.
        let _ = stream.write_all(answer.as_bytes()).await;
    }

    fn apply(&self) -> Result<(), String> {
        if let Some(why) = self.refusal.lock().unwrap().clone() {
            self.sender.send_modify(|held| held.refused += 1);
            return Err(why);
        }
        let mut held = read(&self.data_file)?;
        held.refused = self.sender.borrow().refused;
        self.sender.send_replace(held);
        Ok(())
    }
}

/// Reads a whole data file, and believes nothing that it does not check.
fn read(path: &Path) -> Result<Held, String> {
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    if !text.ends_with('\n') {
        return Err("the last line is not finished".into());
    }
    let mut lines = text.lines();
    let header: Value = parse(lines.next().unwrap_or_default())?;
    if header["partnerd"] != 1 {
        return Err(format!("an unknown format: {header}"));
    }
    let settings = lines.next().ok_or("there are no settings")?;
    let mut content = Content::default();
    content.set_settings(settings)?;
    let mut bytes = settings.len() + 1;
    let mut last = String::new();
    for _ in 0..header["partners"].as_u64().ok_or("no number of partners")? {
        let line = lines.next().ok_or("there are fewer partners than the header says")?;
        bytes += line.len() + 1;
        let domain = content.put(line)?;
        if domain <= last {
            return Err(format!("{domain} is not in its place"));
        }
        last = domain;
    }
    if header["bytes"] != bytes || header["digest"] != content.digest() {
        return Err(format!("{header} is not about {bytes} bytes of {}", content.digest()));
    }
    let mut generation = header["generation"].as_i64().ok_or("no generation")?;
    let mut deltas = 0;
    while let Some(line) = lines.next() {
        let header: Value = parse(line)?;
        if header["base"] != content.digest() {
            return Err(format!("the delta {header} is not based on {}", content.digest()));
        }
        for _ in 0..header["lines"].as_u64().ok_or("no number of lines")? {
            content.edit(lines.next().ok_or("there are fewer lines than the delta says")?)?;
        }
        if header["digest"] != content.digest() {
            return Err(format!("after the delta {header} the digest is {}", content.digest()));
        }
        let later = header["generation"].as_i64().ok_or("no generation")?;
        if later < generation {
            return Err("the generation went back".into());
        }
        generation = later;
        deltas += 1;
    }
    Ok(content.held(generation, deltas))
}

/// The lines in force.
#[derive(Default)]
struct Content {
    settings: String,
    partners: BTreeMap<String, String>,
}

impl Content {
    fn set_settings(&mut self, line: &str) -> Result<(), String> {
        if !line.starts_with(r#"{"mode":""#) {
            return Err(format!("these are no settings: {line}"));
        }
        parse(line)?;
        line.clone_into(&mut self.settings);
        Ok(())
    }

    fn put(&mut self, line: &str) -> Result<String, String> {
        if !line.starts_with(r#"{"domain":""#) {
            return Err(format!("this is no partner: {line}"));
        }
        let value = parse(line)?;
        let domain = value["domain"].as_str().ok_or("no domain")?.to_owned();
        self.partners.insert(domain.clone(), line.to_owned());
        Ok(domain)
    }

    fn edit(&mut self, line: &str) -> Result<(), String> {
        match parse(line)?.get("remove").and_then(Value::as_str) {
            Some(domain) => {
                let removed = self.partners.remove(domain);
                removed.map(drop).ok_or_else(|| format!("{domain} was not there"))
            }
            None if line.starts_with(r#"{"mode":"#) => self.set_settings(line),
            None => self.put(line).map(drop),
        }
    }

    fn digest(&self) -> String {
        let mut sum = [0; 32];
        for line in self.partners.values().chain([&self.settings]) {
            for (sum, byte) in sum.iter_mut().zip(digest(&SHA256, line.as_bytes()).as_ref()) {
                *sum ^= byte;
            }
        }
        sum.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn held(&self, generation: i64, deltas: usize) -> Held {
        let value = |line: &String| parse(line).unwrap();
        Held {
            generation,
            digest: self.digest(),
            settings: value(&self.settings),
            partners: self.partners.iter().map(|(key, line)| (key.clone(), value(line))).collect(),
            bases: 1,
            deltas,
            refused: 0,
        }
    }
}

fn parse(line: &str) -> Result<Value, String> {
    serde_json::from_str(line).map_err(|error| format!("{error}: {line}"))
}
