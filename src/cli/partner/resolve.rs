//! `partnerctl resolve`.

use clap::Args;

use crate::{
    cli::{
        failure::{Exit, Failure, Outcome},
        json::{Json, enum_text},
        output::{ObjectFormat, fields},
        session::Session,
        values::domain_of,
    },
    proto::v1::{ResolveDomainRequest, ResolveDomainResponse},
};

/// Tell whether we federate with a domain, now, and why or why not.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  partnerctl resolve na.contoso.com
  partnerctl resolve contoso.com --check && echo allowed")]
pub struct ResolveArgs {
    /// The domain, primary or additional
    #[arg(value_name = "DOMAIN")]
    domain: String,

    /// Exit with 8 when the domain is not allowed
    #[arg(long)]
    check: bool,

    /// The form of the output
    #[arg(long, short, value_enum, default_value_t)]
    output: ObjectFormat,
}

impl ResolveArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// The service refuses, or with `--check` the domain is not allowed.
    pub async fn run(self, session: &Session) -> Outcome {
        let client = session.client().await?;
        let request = ResolveDomainRequest { domain: self.domain };
        let answer = client.resolve_domain(request).await?;
        self.output.print(&Json(&answer), || fields(session.console, &pairs(&answer)))?;
        if self.check && !answer.allowed {
            return Err(Failure::silent(Exit::No));
        }
        Ok(())
    }
}

fn pairs(answer: &ResolveDomainResponse) -> Vec<(&'static str, String)> {
    let reason = enum_text(answer.denial_reason().as_str_name(), "DENIAL_REASON_");
    let verdict =
        if answer.allowed { "allowed".to_owned() } else { format!("not allowed: {reason}") };
    let mut pairs = vec![("domain", answer.domain.clone()), ("verdict", verdict)];
    if let Some(partner) = &answer.allowed_partner {
        let methods: Vec<_> = partner
            .negotiation_methods()
            .map(|method| enum_text(method.as_str_name(), "NEGOTIATION_METHOD_"))
            .collect();
        pairs.push(("partner", domain_of(&partner.name).to_owned()));
        pairs.push(("type", enum_text(partner.partner_type().as_str_name(), "PARTNER_TYPE_")));
        pairs.push(("authentication", methods.join(", ")));
        pairs.push(("proxy", partner.proxy_fqdn.clone()));
    }
    if answer.effective_connection_limit > 0 {
        pairs.push(("connections", answer.effective_connection_limit.to_string()));
    }
    if let Some(settings) = &answer.federation_settings {
        pairs.push(("mode", enum_text(settings.mode().as_str_name(), "FEDERATION_MODE_")));
    }
    pairs.push(("revision", answer.revision.to_string()));
    pairs
}
