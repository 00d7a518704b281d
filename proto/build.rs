//! Compiles the protobuf packages without a system `protoc`, and fails when a field that was released is
//! renumbered, retyped or dropped: nodes and fleets of different minors talk to each other (design §9).

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

use prost::Message;
use prost_types::{DescriptorProto, FileDescriptorSet};

const FILES: [&str; 4] = [
    "loadline/types/v1/types.proto",
    "loadline/node/v1/node.proto",
    "loadline/fleet/v1/fleet.proto",
    "loadline/warden/v1/warden.proto",
];

/// The released fields. Rewritten only by `LOADLINE_PROTO_BASELINE=write cargo build -p loadline-proto`.
const BASELINE: &str = "released.binpb";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=loadline");
    println!("cargo::rerun-if-changed={BASELINE}");
    println!("cargo::rerun-if-env-changed=LOADLINE_PROTO_BASELINE");
    let set = protox::compile(FILES, ["."])?;
    if std::env::var("LOADLINE_PROTO_BASELINE").as_deref() == Ok("write") {
        std::fs::write(BASELINE, set.encode_to_vec())?;
    } else if Path::new(BASELINE).exists() {
        compare(
            &FileDescriptorSet::decode(std::fs::read(BASELINE)?.as_slice())?,
            &set,
        )?;
    }
    tonic_prost_build::configure()
        .build_client(true)
        .build_server(true)
        .compile_fds(set)?;
    Ok(())
}

type Fields = BTreeMap<(String, String), (i32, i32, String)>;

fn compare(released: &FileDescriptorSet, now: &FileDescriptorSet) -> Result<(), String> {
    let now = fields(now);
    let changed: Vec<String> = fields(released)
        .into_iter()
        .filter(|(name, shape)| now.get(name) != Some(shape))
        .map(|((message, field), _)| format!("{message}.{field}"))
        .collect();
    if changed.is_empty() {
        return Ok(());
    }
    Err(format!(
        "released fields were renumbered, retyped or dropped: {}. Add new fields instead; older programs still speak the old ones.",
        changed.join(", ")
    ))
}

fn fields(set: &FileDescriptorSet) -> Fields {
    let mut found = Fields::new();
    for file in &set.file {
        for message in &file.message_type {
            collect(file.package(), message, &mut found);
        }
        for list in &file.enum_type {
            for value in &list.value {
                let key = (
                    format!("{}.{}", file.package(), list.name()),
                    value.name().to_owned(),
                );
                found.insert(key, (value.number(), 0, String::new()));
            }
        }
    }
    found
}

fn collect(prefix: &str, message: &DescriptorProto, found: &mut Fields) {
    let name = format!("{prefix}.{}", message.name());
    for field in &message.field {
        let shape = (
            field.number(),
            field.r#type.unwrap_or_default(),
            field.type_name().to_owned(),
        );
        found.insert((name.clone(), field.name().to_owned()), shape);
    }
    for nested in &message.nested_type {
        collect(&name, nested, found);
    }
}
