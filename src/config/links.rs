//! Environment variables of service links. Container platforms set them in every container that
//! runs beside a service: for one called `rekindle` they begin like the variables of this project,
//! though nobody set anything. Called by [`super::layers`] for names that are no keys.

/// Whether a variable that begins with `REKINDLE_` has the shape of a service link:
/// `REKINDLE_SERVICE_HOST`, `REKINDLE_PORT=tcp://...`, `REKINDLE_ADMIN_PORT_7780_TCP_ADDR`, or of a
/// link between containers, `REKINDLE_NAME=/web/rekindle`.
pub(super) fn is_service_link(name: &str, value: &str) -> bool {
    let ends = |tail: &str| name.ends_with(&format!("_{tail}"));
    ends("SERVICE_HOST")
        || ends("SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
        || (ends("PORT") && value.contains("://"))
        || is_port(name)
        || (ends("NAME") && value.starts_with('/') && value.matches('/').count() >= 2)
        || name.contains("_ENV_")
}

/// `..._PORT_7777_UDP`, with or without `_PROTO`, `_PORT` or `_ADDR` behind it.
fn is_port(name: &str) -> bool {
    let base = ["_PROTO", "_PORT", "_ADDR"]
        .iter()
        .find_map(|tail| name.strip_suffix(tail))
        .unwrap_or(name);
    let Some(base) = ["_TCP", "_UDP", "_SCTP"].iter().find_map(|tail| base.strip_suffix(tail))
    else {
        return false;
    };
    let number = base.rsplit_once("_PORT_").map_or("", |(_, number)| number);
    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::is_service_link;

    #[test]
    fn shapes_of_service_links_are_told_from_typing_errors() {
        for (name, value) in [
            ("REKINDLE_SERVICE_HOST", "10.0.0.7"),
            ("REKINDLE_SERVICE_PORT", "7780"),
            ("REKINDLE_SERVICE_PORT_ADMIN", "7780"),
            ("REKINDLE_PORT", "tcp://10.0.0.7:7780"),
            ("REKINDLE_PORT_7780_TCP", "tcp://10.0.0.7:7780"),
            ("REKINDLE_PORT_7777_UDP_PROTO", "udp"),
            ("REKINDLE_PORT_7777_UDP_PORT", "7777"),
            ("REKINDLE_EU_WEST_PORT_7777_UDP_ADDR", "10.0.0.7"),
            ("REKINDLE_NAME", "/web/rekindle"),
            ("REKINDLE_ENV_PATH", "/bin"),
        ] {
            assert!(is_service_link(name, value), "{name}={value}");
        }
        for (name, value) in [
            ("REKINDLE_PORT", "7777"),
            ("REKINDLE_LISTN", "tcp://x:1"),
            ("REKINDLE_NAME", "node-1"),
            ("REKINDLE_PORT_X_TCP", ""),
            ("REKINDLE_HOST", "10.0.0.7"),
        ] {
            assert!(!is_service_link(name, value), "{name}={value}");
        }
    }
}
