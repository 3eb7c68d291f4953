//! The agent, between a real service and a module that reads strictly (and is a fake), or a file.
//! What real servers do with it is tried by `tests/xmpp`.

mod fake_module;

use std::{fs, path::Path, time::Duration};

use partnerd::{
    agent::{Agent, AgentArgs, FormName, Kind},
    proto::v1::{
        AllowedPartner, CreateRoleRequest, FederationMode, FederationSettings, GetReplicaRequest,
        Replica, Role, UpdateFederationSettingsRequest, UpdateRoleRequest,
        WaitForConvergenceRequest, replica::State, replica_service_client::ReplicaServiceClient,
        wait_for_convergence_response::Pending,
    },
};
use prost_types::FieldMask;
use secrecy::ExposeSecret as _;
use tempfile::TempDir;
use tokio::{sync::oneshot, task::JoinHandle, time::timeout};

use crate::harness::{TestServer, actor};
use fake_module::{FakeModule, Held};

const PATIENCE: Duration = Duration::from_secs(30);
const REPLICA: &str = "xmpp1";

/// An agent in this process, with a token of its own.
struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Running {
    fn start(server: &TestServer, folder: &Path, args: AgentArgs) -> Self {
        Self::start_as("sync-agent", server, folder, args)
    }

    fn start_as(role: &str, server: &TestServer, folder: &Path, args: AgentArgs) -> Self {
        let dev = server.dev();
        let hour = jiff::SignedDuration::from_hours(1);
        let token = dev.issue_token(&[role], REPLICA, hour, jiff::Timestamp::now());
        fs::write(folder.join("token"), token.unwrap().expose_secret()).unwrap();
        let agent = Agent::new(&AgentArgs {
            replica: Some(REPLICA.into()),
            endpoint: Some(format!("https://localhost:{}", server.address().port())),
            ca_file: Some(dev.path().join("ca.pem")),
            token_file: Some(folder.join("token")),
            status_interval: Some("1s".into()),
            ..args
        });
        let (stop, stopped) = oneshot::channel::<()>();
        let agent = agent.unwrap();
        let task = tokio::spawn(agent.run(async move { drop(stopped.await) }));
        Self { stop, task }
    }

    fn beside(server: &TestServer, module: &FakeModule) -> Self {
        Self::start(server, module.socket.parent().unwrap(), Self::driving(module))
    }

    fn driving(module: &FakeModule) -> AgentArgs {
        AgentArgs {
            server: Some(Kind::Prosody),
            data_file: Some(module.data_file.clone()),
            socket: Some(module.socket.clone()),
            ..AgentArgs::default()
        }
    }

    async fn end(self) {
        let _ = self.stop.send(());
        timeout(PATIENCE, self.task).await.expect("an agent ends when told to").unwrap();
    }
}

/// Waits until the module has what is asked for.
async fn held(module: &mut FakeModule, wanted: impl Fn(&Held) -> bool) -> Held {
    let waiting = module.held.wait_for(|held| wanted(held));
    timeout(PATIENCE, waiting).await.expect("the module is told in time").unwrap().clone()
}

/// Waits until the service knows that the last revision is in force, and returns the replica.
async fn converged(server: &TestServer) -> Replica {
    let mut replicas = ReplicaServiceClient::new(server.admin().service());
    loop {
        let wait = WaitForConvergenceRequest {
            timeout: Some(prost_types::Duration { seconds: 20, nanos: 0 }),
            ..WaitForConvergenceRequest::default()
        };
        let outcome = replicas.wait_for_convergence(wait).await.unwrap().into_inner();
        // A service that no replica has reported to yet is in step with all of them.
        if outcome.replica_count > 0 {
            assert!(outcome.converged, "{outcome:?}");
            break;
        }
        tokio::task::yield_now().await;
    }
    replica(server).await
}

/// Waits until the service knows that the last revision was refused.
async fn rejected(server: &TestServer) -> Pending {
    let mut replicas = ReplicaServiceClient::new(server.admin().service());
    let waiting = async {
        loop {
            let wait = WaitForConvergenceRequest {
                timeout: Some(prost_types::Duration { seconds: 0, nanos: 100_000_000 }),
                ..WaitForConvergenceRequest::default()
            };
            let outcome = replicas.wait_for_convergence(wait).await.unwrap().into_inner();
            let refuses = |pending: &Pending| pending.state() == State::Rejecting;
            if let Some(pending) = outcome.pending.into_iter().find(refuses) {
                return pending;
            }
        }
    };
    timeout(PATIENCE, waiting).await.expect("the refusal is reported in time")
}

async fn replica(server: &TestServer) -> Replica {
    let mut replicas = ReplicaServiceClient::new(server.admin().service());
    let name = format!("replicas/{REPLICA}");
    replicas.get_replica(GetReplicaRequest { name }).await.unwrap().into_inner()
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

#[tokio::test]
async fn what_is_committed_is_in_force_and_reported() {
    let server = TestServer::start().await;
    let admin = server.admin();
    admin.create_plain("contoso.com").await;
    let folder = folder();
    let mut module = FakeModule::start(folder.path());
    let agent = Running::beside(&server, &module);

    let first = held(&mut module, |held| held.partners.contains_key("contoso.com")).await;
    assert_eq!((first.bases, first.deltas), (1, 0));
    assert_eq!(first.settings["mode"], "ALLOW_LISTED");
    assert_eq!(first.partners["contoso.com"]["methods"][0], "SASL_OVER_TLS");

    let books = AllowedPartner {
        additional_domains: vec!["BÜCHER.example".into()],
        connection_limit: Some(7),
        ..AllowedPartner::default()
    };
    admin.create("fabrikam.com", books).await.unwrap();
    let second = held(&mut module, |held| held.partners.len() == 2).await;
    assert_eq!(second.deltas, 1, "one change is one delta");
    let names = &second.partners["fabrikam.com"]["names"];
    assert_eq!(
        names,
        &serde_json::json!(["fabrikam.com", "xn--bcher-kva.example", "bücher.example"])
    );
    assert_eq!(second.partners["fabrikam.com"]["connection_limit"], 7);

    let suspended = AllowedPartner { suspended: true, ..AllowedPartner::default() };
    admin.update(actor::update("contoso.com", &["suspended"], suspended)).await.unwrap();
    held(&mut module, |held| held.partners["contoso.com"]["suspended"] == true).await;

    admin.delete("fabrikam.com").await.unwrap();
    held(&mut module, |held| !held.partners.contains_key("fabrikam.com")).await;

    let replica = converged(&server).await;
    assert_eq!(replica.state(), State::UpToDate);
    assert_eq!(replica.subject, REPLICA);
    let report = replica.report.unwrap();
    assert_eq!(report.server_version, "Fake 1.0");
    assert_eq!(report.sessions[0].domain, "contoso.com");
    assert_eq!(report.unenforced_properties[0].property, "proxy_fqdn");
    agent.end().await;
}

#[tokio::test]
async fn the_settings_and_the_passphrase_reach_the_server_and_the_passphrase_nobody_else() {
    let server = TestServer::start().await;
    let folder = folder();
    let mut module = FakeModule::start(folder.path());
    let agent = Running::beside(&server, &module);
    held(&mut module, |held| held.generation >= 0).await;

    let settings = FederationSettings {
        mode: FederationMode::DenyAll.into(),
        dialback_passphrase: "open sesame, and be quick".into(),
        ..FederationSettings::default()
    };
    let update = UpdateFederationSettingsRequest {
        federation_settings: Some(settings),
        update_mask: Some(FieldMask { paths: vec!["mode".into(), "dialback_passphrase".into()] }),
        ..UpdateFederationSettingsRequest::default()
    };
    server.admin().settings().update_federation_settings(update).await.unwrap();
    let now = held(&mut module, |held| held.settings["mode"] == "DENY_ALL").await;
    let name = now.settings["dialback_passphrase"].as_str().unwrap();
    let kept = fs::read_to_string(folder.path().join(name)).unwrap();
    assert_eq!(kept, "open sesame, and be quick\n");
    assert!(!fs::read_to_string(&module.data_file).unwrap().contains("sesame"));
    agent.end().await;
}

#[tokio::test]
async fn what_the_server_refuses_is_reported_and_offered_again() {
    let server = TestServer::start().await;
    let admin = server.admin();
    let folder = folder();
    let mut module = FakeModule::start(folder.path());
    let agent = Running::beside(&server, &module);
    held(&mut module, |held| held.generation >= 0).await;
    converged(&server).await;

    module.refuse(Some("line 3: I do not like it"));
    admin.create_plain("contoso.com").await;
    held(&mut module, |held| held.refused > 0).await;
    let pending = rejected(&server).await;
    assert_eq!(pending.rejection.as_ref().unwrap().reason, "line 3: I do not like it");

    module.refuse(None);
    held(&mut module, |held| held.partners.contains_key("contoso.com")).await;
    assert_eq!(converged(&server).await.state(), State::UpToDate);
    agent.end().await;
}

#[tokio::test]
async fn a_server_that_was_started_anew_is_told_everything_again() {
    let server = TestServer::start().await;
    server.admin().create_plain("contoso.com").await;
    let folder = folder();
    let mut module = FakeModule::start(folder.path());
    let agent = Running::beside(&server, &module);
    held(&mut module, |held| held.partners.len() == 1).await;
    drop(module);

    let mut module = FakeModule::start(folder.path());
    held(&mut module, |held| held.partners.len() == 1).await;
    agent.end().await;
}

#[tokio::test]
async fn an_agent_that_was_started_anew_catches_up() {
    let server = TestServer::start().await;
    let admin = server.admin();
    admin.create_plain("contoso.com").await;
    let folder = folder();
    let mut module = FakeModule::start(folder.path());
    let agent = Running::beside(&server, &module);
    held(&mut module, |held| held.partners.len() == 1).await;
    agent.end().await;
    admin.delete("contoso.com").await.unwrap();
    admin.create_plain("fabrikam.com").await;
    assert!(module.held.borrow().partners.contains_key("contoso.com"), "nobody told it");

    let agent = Running::beside(&server, &module);
    let now = held(&mut module, |held| held.partners.contains_key("fabrikam.com")).await;
    assert_eq!(now.partners.len(), 1);
    agent.end().await;
}

#[tokio::test]
async fn a_removal_is_not_lost_while_the_settings_cannot_be_seen() {
    let server = TestServer::start().await;
    let admin = server.admin();
    let watching = ["allowedPartners.watch", "replicas.report"].map(str::to_owned);
    let seeing = ["federationSettings.get".to_owned()];
    let role = |permissions: Vec<String>| Role {
        name: "roles/beside".into(),
        permissions,
        ..Role::default()
    };
    let all = || watching.iter().chain(&seeing).cloned().collect();
    let create = CreateRoleRequest {
        role_id: "beside".into(),
        role: Some(role(all())),
        ..CreateRoleRequest::default()
    };
    admin.roles().create_role(create).await.unwrap();
    let update = async |permissions| {
        let request = UpdateRoleRequest {
            role: Some(role(permissions)),
            update_mask: Some(FieldMask { paths: vec!["permissions".into()] }),
            ..UpdateRoleRequest::default()
        };
        admin.roles().update_role(request).await.unwrap();
    };
    admin.create_plain("contoso.com").await;
    let folder = folder();
    let mut module = FakeModule::start(folder.path());
    let args = Running::driving(&module);
    let agent = Running::start_as("beside", &server, folder.path(), args);
    held(&mut module, |held| held.partners.len() == 1).await;

    update(watching.to_vec()).await;
    admin.delete("contoso.com").await.unwrap();
    let rejection = rejected(&server).await.rejection.unwrap();
    assert!(rejection.reason.contains("federationSettings.get"), "{rejection:?}");
    assert!(module.held.borrow().partners.contains_key("contoso.com"), "it keeps what it had");

    update(all()).await;
    held(&mut module, |held| held.partners.is_empty()).await;
    assert_eq!(converged(&server).await.state(), State::UpToDate);
    agent.end().await;
}

#[tokio::test]
async fn a_burst_is_put_in_force_whole() {
    let server = TestServer::start().await;
    let admin = server.admin();
    let folder = folder();
    let mut module = FakeModule::start(folder.path());
    let agent = Running::beside(&server, &module);
    held(&mut module, |held| held.generation >= 0).await;
    for number in 0..300 {
        admin.create_plain(&format!("partner-{number}.example")).await;
    }
    let now = held(&mut module, |held| held.partners.len() == 300).await;
    assert!(now.deltas <= 300);
    agent.end().await;
}

/// An agent that keeps a list of names, and a command that notes how often it ran.
fn list(folder: &Path, command: &str) -> AgentArgs {
    AgentArgs {
        server: Some(Kind::File),
        data_file: Some(folder.join("allowed")),
        form: Some(FormName::List),
        command: Some(command.to_owned()),
        ..AgentArgs::default()
    }
}

#[tokio::test]
async fn a_list_holds_who_is_allowed_and_says_what_it_does_not_enforce() {
    let server = TestServer::start().await;
    let admin = server.admin();
    admin.create_plain("contoso.com").await;
    let suspended = AllowedPartner { suspended: true, ..AllowedPartner::default() };
    admin.create("fabrikam.com", suspended).await.unwrap();
    let folder = folder();
    let command = format!("cat \"$PARTNERD_FILE\" > {}/seen", folder.path().display());
    let agent = Running::start(&server, folder.path(), list(folder.path(), &command));

    let report = converged(&server).await.report.unwrap();
    assert_eq!(fs::read_to_string(folder.path().join("allowed")).unwrap(), "contoso.com\n");
    assert_eq!(fs::read_to_string(folder.path().join("seen")).unwrap(), "contoso.com\n");
    let unenforced: Vec<_> =
        report.unenforced_properties.iter().map(|one| one.property.as_str()).collect();
    assert!(unenforced.contains(&"tls_negotiation"), "{unenforced:?}");
    assert!(!report.warnings.is_empty());
    agent.end().await;
}

#[tokio::test]
async fn a_command_learns_who_is_gone_also_from_an_agent_that_was_away() {
    let server = TestServer::start().await;
    let admin = server.admin();
    admin.create_plain("contoso.com").await;
    admin.create_plain("fabrikam.com").await;
    let folder = folder();
    let command = format!("cat \"$PARTNERD_REMOVED_FILE\" >> {}/gone", folder.path().display());
    let agent = Running::start(&server, folder.path(), list(folder.path(), &command));
    converged(&server).await;
    agent.end().await;
    admin.delete("fabrikam.com").await.unwrap();

    let agent = Running::start(&server, folder.path(), list(folder.path(), &command));
    converged(&server).await;
    assert_eq!(fs::read_to_string(folder.path().join("gone")).unwrap(), "fabrikam.com\n");
    agent.end().await;
}

#[tokio::test]
async fn what_a_command_refuses_is_taken_back() {
    let server = TestServer::start().await;
    let admin = server.admin();
    admin.create_plain("contoso.com").await;
    let folder = folder();
    let command =
        "if grep -q fabrikam \"$PARTNERD_FILE\"; then echo no such partner >&2; exit 3; fi";
    let agent = Running::start(&server, folder.path(), list(folder.path(), command));
    converged(&server).await;
    admin.create_plain("fabrikam.com").await;

    let rejection = rejected(&server).await.rejection.unwrap();
    assert!(rejection.reason.contains("no such partner"), "{rejection:?}");
    assert_eq!(fs::read_to_string(folder.path().join("allowed")).unwrap(), "contoso.com\n");
    agent.end().await;
}

#[tokio::test]
async fn a_template_is_filled_in() {
    let server = TestServer::start().await;
    server.admin().create_plain("contoso.com").await;
    let folder = folder();
    let template = folder.path().join("template");
    let text = "{% for partner in partners %}{% for name in partner.names %}allow {{ name }};\n\
                {% endfor %}{% endfor %}";
    fs::write(&template, text).unwrap();
    let args = AgentArgs {
        form: Some(FormName::Template),
        template: Some(template),
        ..list(folder.path(), "true")
    };
    let agent = Running::start(&server, folder.path(), args);
    converged(&server).await;
    assert_eq!(fs::read_to_string(folder.path().join("allowed")).unwrap(), "allow contoso.com;\n");
    agent.end().await;
}

#[test]
fn every_mistake_in_the_options_is_told() {
    let args = AgentArgs {
        server: Some(Kind::Prosody),
        endpoint: Some("http://xmpp.example.com".into()),
        api: Some("http://127.0.0.1:5281".into()),
        replica: Some("Not A Name".into()),
        status_interval: Some("often".into()),
        ..AgentArgs::default()
    };
    let Err(error) = Agent::new(&args) else { panic!("these options are wrong") };
    let told = error.to_string();
    for key in ["endpoint", "token_file", "data_file", "api", "replica", "status_interval"] {
        assert!(told.lines().any(|line| line.starts_with(key)), "{key} in:\n{told}");
    }
}
