//! The URL of a PostgreSQL database: its servers, its parameters, and whether a server must prove which one it is.

use std::{
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

use sqlx::{
    ConnectOptions as _,
    postgres::{PgConnectOptions, PgSslMode},
};

use crate::error::{AuditError, ErrorKind};

/// The parameters of a URL that have a meaning here.
const PARAMETERS: [&str; 19] = [
    "application_name",
    "dbname",
    "host",
    "hostaddr",
    "options",
    "password",
    "port",
    "ssl-ca",
    "ssl-cert",
    "ssl-key",
    "ssl-mode",
    "ssl-root-cert",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "statement-cache-capacity",
    "target_session_attrs",
    "user",
];

/// The parameters of PostgreSQL's own library that are ignored here, and without which a connection is no less secure.
const IGNORED: [&str; 8] = [
    "client_encoding",
    "connect_timeout",
    "fallback_application_name",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "tcp_user_timeout",
];

/// The contents of a URL.
#[derive(Debug)]
pub(super) struct Url {
    /// How to connect to each of its servers; at least one.
    pub(super) servers: Vec<PgConnectOptions>,
    /// Whether readers too go only to a server that takes writes.
    pub(super) takes_writes: bool,
    /// Whether statements may have names on the server.
    pub(super) names_statements: bool,
}

/// A server as the URL names it. The environment gives the values that the URL does not.
#[derive(Default, Clone)]
struct Server {
    host: Option<String>,
    port: Option<u16>,
}

impl Url {
    /// No message repeats a part of the URL but the name of a parameter: any other part may be one of the password.
    pub(super) fn parse(url: &str) -> Result<Self, AuditError> {
        if url.contains('#') {
            return Err(refused("the PostgreSQL URL has a #: write %23 in its place"));
        }
        let (scheme, rest) = url.split_once("://").ok_or_else(malformed)?;
        if !["postgres", "postgresql"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
            return Err(malformed());
        }
        let (rest, settings) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => {
                (user.split_once(':').map_or((user, None), |(user, password)| (user, Some(password))), hosts)
            }
            None => (("", None), authority),
        };
        let settings = Settings::parse(settings)?;
        let servers = settings.servers(hosts)?;

        let mut parameters = String::new();
        let mut add = |name: &str, value: &str| {
            parameters = format!("{parameters}&{name}={}", encoded(value));
        };
        if !user.0.is_empty() {
            add("user", &decoded(user.0, false)?);
        }
        if let Some(password) = user.1 {
            add("password", &decoded(password, false)?);
        }
        settings.kept.iter().for_each(|(name, value)| add(name, value));
        let options = |server: &Server| {
            let mut parameters = parameters.clone();
            if let Some(host) = &server.host {
                parameters = format!("{parameters}&host={}", encoded(host));
            }
            if let Some(port) = server.port {
                parameters = format!("{parameters}&port={port}");
            }
            let url = format!("postgres://{path}?{}", parameters.trim_start_matches('&'));
            let options = PgConnectOptions::from_str(&url).map_err(|cause| malformed().because(cause))?;
            // A pooler that does not know extra_float_digits refuses the connection, and this crate reads no float as text.
            let options = options.disable_statement_logging().extra_float_digits(None);
            let is_chosen = settings.has_sslmode || environment_has_sslmode()?;
            let proves = !is_chosen && !is_local(&options);
            Ok(if proves { options.ssl_mode(PgSslMode::VerifyFull) } else { options })
        };
        Ok(Self {
            servers: servers.iter().map(options).collect::<Result<_, AuditError>>()?,
            takes_writes: settings.takes_writes,
            names_statements: settings.names_statements,
        })
    }
}

/// The parameters of a URL.
struct Settings {
    hosts: Option<Vec<String>>,
    ports: Vec<Option<u16>>,
    takes_writes: bool,
    names_statements: bool,
    has_sslmode: bool,
    /// The settings that the driver reads: names and values.
    kept: Vec<(String, String)>,
}

impl Settings {
    fn parse(settings: &str) -> Result<Self, AuditError> {
        let mut found = Self {
            hosts: None,
            ports: Vec::new(),
            takes_writes: false,
            names_statements: true,
            has_sslmode: false,
            kept: Vec::new(),
        };
        for setting in settings.split('&').filter(|setting| !setting.is_empty()) {
            let (name, value) = setting.split_once('=').unwrap_or((setting, ""));
            let (name, value) = (decoded(name, true)?, decoded(value, true)?);
            match &*name {
                "host" => found.hosts = Some(value.split(',').map(str::to_owned).collect()),
                "hostaddr" => {
                    if value.split(',').any(|address| IpAddr::from_str(address).is_err()) {
                        return Err(refused(
                            "the parameter hostaddr of the PostgreSQL URL is not an IP address",
                        ));
                    }
                    found.hosts = Some(value.split(',').map(str::to_owned).collect());
                }
                "port" => found.ports = value.split(',').map(port).collect::<Result<_, _>>()?,
                "target_session_attrs" => found.takes_writes = takes_writes(&value)?,
                name if IGNORED.contains(&name) => {}
                name if PARAMETERS.contains(&name) || name.starts_with("options[") => {
                    found.has_sslmode |= matches!(name, "sslmode" | "ssl-mode");
                    if name == "statement-cache-capacity" {
                        found.names_statements = value != "0";
                    }
                    found.kept.push((name.to_owned(), value));
                }
                name => {
                    let message = format!(
                        "the PostgreSQL URL has a parameter {name:?}, which this crate does not know: correct or remove \
                         it. It knows {}",
                        PARAMETERS.join(", ")
                    );
                    return Err(refused(&message));
                }
            }
        }
        Ok(found)
    }

    /// The servers: those of the parameters, else those between the user and the path.
    fn servers(&self, authority: &str) -> Result<Vec<Server>, AuditError> {
        let mut servers = match &self.hosts {
            Some(hosts) => {
                let server = |host: &String| {
                    let host = host.trim_start_matches('[').trim_end_matches(']');
                    Server { host: Some(host.to_owned()).filter(|host| !host.is_empty()), port: None }
                };
                hosts.iter().map(server).collect()
            }
            None => authority.split(',').map(server).collect::<Result<Vec<_>, _>>()?,
        };
        if self.ports.len() > 1 && self.ports.len() != servers.len() {
            return Err(refused("the PostgreSQL URL has another number of ports than of hosts"));
        }
        let ports = self.ports.iter().cycle().take(servers.len());
        for (server, port) in servers.iter_mut().zip(ports) {
            server.port = port.or(server.port);
        }
        if servers.len() > 1 && servers.iter().any(|server| server.host.is_none()) {
            return Err(refused("one of the hosts in the PostgreSQL URL has no name"));
        }
        Ok(servers)
    }
}

/// A host with its port, as between the user and the path of a URL.
fn server(text: &str) -> Result<Server, AuditError> {
    let (host, after) = if let Some(text) = text.strip_prefix('[') {
        let (host, after) = text.split_once(']').ok_or_else(malformed)?;
        Ipv6Addr::from_str(host).map_err(|_| malformed())?;
        (host.to_owned(), after)
    } else {
        let (host, after) = text.split_at(text.find(':').unwrap_or(text.len()));
        (decoded(host, false)?, after)
    };
    let port = match after.strip_prefix(':') {
        Some(text) => port(text)?,
        None if after.is_empty() => None,
        None => return Err(malformed()),
    };
    Ok(Server { host: Some(host).filter(|host| !host.is_empty()), port })
}

fn port(text: &str) -> Result<Option<u16>, AuditError> {
    if text.is_empty() {
        return Ok(None);
    }
    let message = "a port in the PostgreSQL URL is not a number up to 65535; an IPv6 address needs brackets, and a : or @ \
                   in a password is written as %3A or %40";
    text.parse().map(Some).map_err(|_| refused(message))
}

/// Whether a log with this `target_session_attrs` goes only to a server that takes writes, for reading too.
fn takes_writes(attributes: &str) -> Result<bool, AuditError> {
    match attributes {
        "any" => Ok(false),
        "read-write" | "primary" => Ok(true),
        _ => Err(refused(
            "target_session_attrs is any, read-write or primary: to read from a standby, name that server alone",
        )),
    }
}

/// Whether the environment chooses an `sslmode`.
fn environment_has_sslmode() -> Result<bool, AuditError> {
    match std::env::var("PGSSLMODE") {
        Ok(mode) if mode.is_empty() => Ok(false),
        // The driver would ignore what it does not know, and connect without checking anything.
        Ok(mode) if PgSslMode::from_str(&mode).is_err() => {
            Err(refused("PGSSLMODE is none of disable, allow, prefer, require, verify-ca and verify-full"))
        }
        Ok(_) => Ok(true),
        Err(_) => Ok(false),
    }
}

/// Whether the connection does not leave this machine.
fn is_local(options: &PgConnectOptions) -> bool {
    let host = options.get_host().trim_end_matches('.').to_ascii_lowercase();
    options.get_socket().is_some()
        || host.starts_with('/')
        || host == "localhost"
        || host.ends_with(".localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

/// The warning about a connection over a network on which the server need not prove which one it is.
pub(super) fn unproven(options: &PgConnectOptions) -> Option<AuditError> {
    let mode = match options.get_ssl_mode() {
        PgSslMode::Allow => "allow",
        PgSslMode::Prefer => "prefer",
        PgSslMode::Require => "require",
        PgSslMode::Disable | PgSslMode::VerifyCa | PgSslMode::VerifyFull => return None,
    };
    let message = format!(
        "sslmode={mode} does not check which server answers: whoever stands between this process and {} can read the \
         password and the entries, and answer in its place. Use sslmode=verify-full, with sslrootcert for an authority of \
         your own",
        options.get_host()
    );
    Some(refused(&message)).filter(|_| !is_local(options))
}

fn malformed() -> AuditError {
    refused("not a valid PostgreSQL URL: postgres://user@host/database")
}

fn refused(message: &str) -> AuditError {
    AuditError::new(ErrorKind::Config, message.to_owned())
}

/// A part of a URL without its percent signs; in a parameter, `+` is a blank.
fn decoded(text: &str, is_parameter: bool) -> Result<String, AuditError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let digits = after.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        let (byte, digits) = match (first, byte) {
            (b'%', Some(byte)) => (byte, 2),
            (b'+', _) if is_parameter => (b' ', 0),
            (byte, _) => (*byte, 0),
        };
        bytes.push(byte);
        rest = after.get(digits..).unwrap_or_default();
    }
    String::from_utf8(bytes).map_err(|_| malformed())
}

/// A text as a parameter of a URL.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            let digits = [byte >> 4, byte & 15].map(|digit| char::from_digit(u32::from(digit), 16));
            encoded.extend(digits.into_iter().flatten());
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> Url {
        Url::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"))
    }

    /// The hosts and ports that a URL names.
    fn servers(url: &str) -> Vec<(String, u16)> {
        let server = |options: &PgConnectOptions| {
            let host = options
                .get_socket()
                .map_or_else(|| options.get_host().to_owned(), |socket| socket.display().to_string());
            (host, options.get_port())
        };
        parsed(url).servers.iter().map(server).collect()
    }

    #[test]
    fn a_misspelled_parameter_of_a_url_is_refused_however_it_is_spelled() {
        let of = |settings: &str| Url::parse(&format!("postgres://clerk:hunter2@h/books?{settings}"));
        for known in [
            "",
            "sslmode=require",
            "sslmode=disable&port=1",
            "options[a]=b",
            "options%5Ba%5D=b",
            "connect_timeout=3",
            "%73slmode=require",
            "application%5fname=a+b",
            "&",
        ] {
            assert!(of(known).is_ok(), "{known}");
        }
        for unknown in [
            "sslmod=require",
            "sslmode=require&SSLMODE=require",
            "%73slmod=require",
            "sslmode%20=require",
            "sslmode%00=require",
            "ssl+mode=require",
            "channel_binding=require",
            "x",
            "=",
            "sslmode=",
            "sslmode=verify_full",
            "sslmode=verify-full#x",
            "target_session_attrs=standby",
            "target_session_attrs=",
            "hostaddr=name",
            "port=1,2",
            "port=99999",
        ] {
            let refused = of(unknown).unwrap_err();
            assert!(
                refused.is_config() && !format!("{refused:?}").contains("hunter2"),
                "{unknown}: {refused:?}"
            );
        }
        assert!(matches!(of("%73slmode=disable").unwrap().servers[0].get_ssl_mode(), PgSslMode::Disable));
    }

    #[test]
    fn hosts_are_names_addresses_and_sockets_in_either_place() {
        let of = |pairs: &[(&str, u16)]| {
            pairs.iter().map(|(host, port)| ((*host).to_owned(), *port)).collect::<Vec<_>>()
        };
        assert_eq!(servers("postgres://u@[::1]:5433/db?sslmode=disable"), of(&[("::1", 5433)]));
        assert_eq!(servers("postgres://[2001:db8::7]:1/db"), of(&[("2001:db8::7", 1)]));
        assert_eq!(servers("postgres:///db?host=::1&port=7"), of(&[("::1", 7)]));
        assert_eq!(servers("postgres://u@a:1,b:2,[::1]:3/db"), of(&[("a", 1), ("b", 2), ("::1", 3)]));
        assert_eq!(servers("postgresql://u:p%2Cw@a,b/db?port=6"), of(&[("a", 6), ("b", 6)]));
        assert_eq!(servers("postgres:///db?host=a,b&port=1,2"), of(&[("a", 1), ("b", 2)]));
        assert_eq!(
            servers("postgres:///db?hostaddr=10.0.0.1,::1&port=1"),
            of(&[("10.0.0.1", 1), ("::1", 1)])
        );
        assert_eq!(servers("postgres://u@%2Frun%2Fa:1,%2Frun%2Fb:2/db"), of(&[("/run/a", 1), ("/run/b", 2)]));
        assert_eq!(servers("postgres:///db?host=/run/a,/run/b&port=1"), of(&[("/run/a", 1), ("/run/b", 1)]));
        for wrong in [
            "postgres://u@::1/db",
            "postgres://u@[::1/db",
            "postgres://u@[::1]x/db",
            "postgres://u@[name]/db",
            "postgres://u@a,,b/db",
            "postgres://u@a:1:2/db",
            "mysql://u@a/db",
            "u@a/db",
            "postgres://u%ff@a/db",
        ] {
            assert!(Url::parse(wrong).unwrap_err().is_config(), "{wrong}");
        }
    }

    #[test]
    fn what_stands_before_the_hosts_is_the_role_and_its_password_as_they_were_written() {
        for (url, user, database) in [
            ("postgres://u%40x:p%26a%3Ds%25+@a/d%20b", "u@x", "d b"),
            ("postgres://u+v:p@a/db", "u+v", "db"),
            ("postgres://a/db?user=u%26v&password=p", "u&v", "db"),
        ] {
            let options = &parsed(url).servers[0];
            assert_eq!((options.get_username(), options.get_database()), (user, Some(database)), "{url}");
        }
        // The driver shows the password in its own Debug.
        let shown = format!("{:?}", parsed("postgres://u:p%26a%3Ds%25+%40@a/db").servers[0]);
        assert!(shown.contains(r#"Some("p&a=s%+@")"#), "{shown}");
    }

    #[test]
    fn a_server_elsewhere_must_prove_which_one_it_is_unless_the_url_says_otherwise() {
        let mode = |url: &str| parsed(url).servers[0].get_ssl_mode();
        for elsewhere in ["a", "10.0.0.1", "[2001:db8::7]", "0.0.0.0", "localhost.example.com", "128.0.0.1"] {
            let url = format!("postgres://u@{elsewhere}/db");
            assert!(matches!(mode(&url), PgSslMode::VerifyFull), "{url}");
            for (chosen, is_told) in [
                ("disable", false),
                ("prefer", true),
                ("require", true),
                ("verify-ca", false),
                ("verify-full", false),
            ] {
                let url = format!("{url}?sslmode={chosen}");
                let options = &parsed(&url).servers[0];
                assert_eq!(
                    format!("{:?}", options.get_ssl_mode()).to_lowercase(),
                    chosen.replace('-', ""),
                    "{url}"
                );
                assert_eq!(unproven(options).is_some(), is_told, "{url}");
            }
        }
        for here in [
            "localhost",
            "LOCALHOST.",
            "db.localhost",
            "127.0.0.1",
            "127.9.9.9",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "%2Frun",
        ] {
            let url = format!("postgres://u@{here}/db");
            assert!(matches!(mode(&url), PgSslMode::Prefer), "{url}");
            assert!(unproven(&parsed(&url).servers[0]).is_none(), "{url}");
        }
    }
}
