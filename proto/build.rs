//! Compiles the contracts in pure Rust: no `protoc` is needed to build Tortie.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = [
        "common",
        "sync",
        "store",
        "bird",
        "bird_operator",
        "bird_facts",
        "felix",
    ]
    .map(|name| format!("tortie/{name}.proto"));
    for file in &files {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(files, ["."])?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
