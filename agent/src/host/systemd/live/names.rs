//! systemd's names on the bus: object paths of units, and errors in our words.

use super::super::SystemdError;

const PREFIX: &str = "/org/freedesktop/systemd1/unit/";
/// How paths of workers begin; a cheap test before anything is decoded.
const WORKER_PREFIX: &str = "/org/freedesktop/systemd1/unit/loadline_2dw_2d";

/// A unit's object path: everything but letters and digits becomes `_` and two hexadecimal digits.
pub(super) fn path_of(unit: &str) -> String {
    let mut path = String::from(PREFIX);
    for (index, byte) in unit.bytes().enumerate() {
        let plain = byte.is_ascii_alphabetic() || (byte.is_ascii_digit() && index > 0);
        if plain {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("_{byte:02x}"));
        }
    }
    path
}

/// The worker unit behind an object path, if it is one.
pub(super) fn worker_of(path: &str) -> Option<String> {
    let hex = path.strip_prefix(WORKER_PREFIX)?.strip_suffix("_2eservice")?;
    let plain = hex.bytes().all(|byte| byte.is_ascii_alphanumeric());
    plain.then(|| format!("loadline-w-{hex}.service"))
}

/// Bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

/// An error of the bus in our words.
pub(super) fn explain(operation: &'static str, unit: &str, error: zbus::Error) -> SystemdError {
    let unit = unit.to_owned();
    let (name, message) = match &error {
        zbus::Error::MethodError(name, message, _) => (name.as_str(), message.clone().unwrap_or_default()),
        _ => ("", String::new()),
    };
    match name {
        "org.freedesktop.systemd1.UnitExists" => SystemdError::UnitExists { unit },
        "org.freedesktop.systemd1.NoSuchUnit" | "org.freedesktop.DBus.Error.UnknownObject" => {
            SystemdError::NoSuchUnit { unit }
        }
        // A time-out or lost connection inside the bus is not systemd's refusal: it may still act.
        ""
        | "org.freedesktop.DBus.Error.NoReply"
        | "org.freedesktop.DBus.Error.Timeout"
        | "org.freedesktop.DBus.Error.TimedOut"
        | "org.freedesktop.DBus.Error.Disconnected"
        | "org.freedesktop.DBus.Error.ServiceUnknown" => SystemdError::Bus {
            operation,
            unit,
            source: Box::new(error),
        },
        _ => SystemdError::Refused {
            operation,
            unit,
            message,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_round_trip_for_workers_and_only_for_them() {
        let unit = "loadline-w-0192f0c123457abc8def0123456789ab.service";
        assert_eq!(
            path_of(unit),
            "/org/freedesktop/systemd1/unit/loadline_2dw_2d0192f0c123457abc8def0123456789ab_2eservice"
        );
        assert_eq!(worker_of(&path_of(unit)).as_deref(), Some(unit));
        assert_eq!(worker_of(&path_of("nginx.service")), None);
        assert_eq!(worker_of(&path_of("loadline-w-a-b.service")), None);
    }
}
