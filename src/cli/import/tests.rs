//! Files in the shapes that real exporters write, read to the end.

use std::path::Path;

use super::{format::Format, record::Record, text};

fn records(file: &str) -> (Format, Vec<Record>) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/import").join(file);
    let text = text::decode(&std::fs::read(file).unwrap()).unwrap();
    let format = Format::detect(&text).unwrap();
    (format, format.parse(&text, &[]).unwrap().records)
}

/// What was read, one entry a line: its line, its values, and what was left out or is wrong.
fn told(file: &str) -> String {
    let (format, records) = records(file);
    let lines = records.iter().map(|Record { line, label, stated, notes }| {
        let told = match stated {
            Err(reason) => format!("REFUSED {reason}"),
            Ok(stated) => {
                let json = serde_json::to_string(&crate::cli::json::Json(&stated.partner)).unwrap();
                format!("{} {json}", stated.paths.join(","))
            }
        };
        let notes: String = notes.iter().map(|note| format!("\n    note: {note}")).collect();
        format!("{line}: {label}: {told}{notes}\n")
    });
    format!("{format:?}\n{}", lines.collect::<String>())
}

#[test]
fn clixml_with_deserialized_types_enums_references_and_unknown_members() {
    insta::assert_snapshot!(told("partners.clixml"), @r#"
    Clixml
    2: contoso.com: additional_domains,connection_limit,description,proxy_fqdn,keep_alive_enabled,partner_type,tls_negotiation,sasl_negotiation,dialback_enabled {"name":"allowedPartners/contoso.com","description":"Contoso & sons (trusted)","additionalDomains":["na.contoso.com","eu.contoso.com"],"partnerType":"PARTNER_TYPE_FEDERATED","connectionLimit":20,"keepAliveEnabled":true,"tlsNegotiation":"NEGOTIATION_REQUIRED","saslNegotiation":"NEGOTIATION_REQUIRED","dialbackEnabled":false}
        note: Description: line breaks became spaces
        note: Favourite: unknown; left out
    46: gmail.com: additional_domains,tls_negotiation,sasl_negotiation,keep_alive_enabled,dialback_enabled {"name":"allowedPartners/gmail.com","keepAliveEnabled":false,"tlsNegotiation":"NEGOTIATION_NOT_SUPPORTED","saslNegotiation":"NEGOTIATION_NOT_SUPPORTED","dialbackEnabled":true}
    57: bad.example: REFUSED TlsNegotiation: `Sometimes` is unknown; give required, optional or not-supported
    "#);
}

#[test]
fn clixml_in_utf_16_with_a_mark_is_the_same() {
    assert_eq!(told("partners-utf16.clixml"), told("partners.clixml"));
}

#[test]
fn json_of_powershell() {
    insta::assert_snapshot!(told("partners.json"), @r#"
    Json
    2: contoso.com: additional_domains,connection_limit,description,keep_alive_enabled,partner_type,proxy_fqdn,sasl_negotiation,dialback_enabled,tls_negotiation {"name":"allowedPartners/contoso.com","description":"Contoso & sons","additionalDomains":["na.contoso.com","eu.contoso.com"],"partnerType":"PARTNER_TYPE_FEDERATED","connectionLimit":20,"keepAliveEnabled":true,"tlsNegotiation":"NEGOTIATION_OPTIONAL","saslNegotiation":"NEGOTIATION_REQUIRED","dialbackEnabled":true}
    23: numbers.example: REFUSED TlsNegotiation: 1 is a number, not a name; export with Export-Clixml, or with ConvertTo-Json -EnumsAsStrings
    27: empty.example: additional_domains {"name":"allowedPartners/empty.example"}
    "#);
}

#[test]
fn csv_of_powershell_with_crlf_and_quotes() {
    insta::assert_snapshot!(told("partners.csv"), @r#"
    Csv
    3: contoso.com: connection_limit,description,keep_alive_enabled,partner_type,sasl_negotiation,tls_negotiation,dialback_enabled {"name":"allowedPartners/contoso.com","description":"Contoso, \"the\" partner","partnerType":"PARTNER_TYPE_FEDERATED","connectionLimit":20,"keepAliveEnabled":true,"tlsNegotiation":"NEGOTIATION_REQUIRED","saslNegotiation":"NEGOTIATION_REQUIRED","dialbackEnabled":false}
        note: AdditionalDomains: the file holds only the list's type; left as it is
    4: plain.example: additional_domains,connection_limit,description {"name":"allowedPartners/plain.example","description":"two lines"}
        note: Description: line breaks became spaces
    6: short.example: REFUSED 3 cells, but the header has 10
    7: bad domain: REFUSED Identity: `bad domain`: not a valid domain name (UTS 46, RFC 7622): letters, digits and inner hyphens, in labels of 1 to 63, with dots between
    "#);
}

#[test]
fn the_stores_own_xml() {
    insta::assert_snapshot!(told("store.xml"), @r#"
    StoreXml
    5: contoso.com: partner_type,tls_negotiation,sasl_negotiation,dialback_enabled,keep_alive_enabled,connection_limit,additional_domains {"name":"allowedPartners/contoso.com","additionalDomains":["na.contoso.com","eu.contoso.com"],"partnerType":"PARTNER_TYPE_FEDERATED","connectionLimit":5,"keepAliveEnabled":false,"tlsNegotiation":"NEGOTIATION_REQUIRED","saslNegotiation":"NEGOTIATION_OPTIONAL","dialbackEnabled":true}
    13: fabrikam.com: description {"name":"allowedPartners/fabrikam.com"}
    14: : REFUSED it has no Identity and no Domain
    "#);
}

#[test]
fn lists_of_other_servers() {
    insta::assert_snapshot!(told("domains.txt"), @r#"
    List
    2: contoso.com:  {"name":"allowedPartners/contoso.com"}
    3: Fabrikam.COM:  {"name":"allowedPartners/fabrikam.com"}
    4: bücher.example:  {"name":"allowedPartners/xn--bcher-kva.example"}
    6: user@litware.com: REFUSED `user@litware.com`: this is an address, not a domain; leave out the local part and the resource
    "#);
    insta::assert_snapshot!(told("prosody.cfg.lua"), @r#"
    Prosody
    5: contoso.com:  {"name":"allowedPartners/contoso.com"}
    6: fabrikam.com:  {"name":"allowedPartners/fabrikam.com"}
    7: *.org: REFUSED `*.org`: wildcards are not allowed in a domain; name each domain (RFC 7622)
    "#);
    insta::assert_snapshot!(told("ejabberd.yml"), @r#"
    Ejabberd
    10: contoso.com:  {"name":"allowedPartners/contoso.com"}
    11: fabrikam.com:  {"name":"allowedPartners/fabrikam.com"}
    12: *.org: REFUSED server_glob is a pattern; name each domain
    "#);
}
