//! Compiles etcd's services in pure Rust, as the crate `proto` does with ours; their messages are `tortie_datastore`'s.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=../datastore/proto/etcd.proto");
    let descriptors = protox::compile(["etcd.proto"], ["../datastore/proto"])?;
    tonic_prost_build::configure()
        .build_server(false)
        .extern_path(".etcdserverpb", "::tortie_datastore::etcd::proto")
        .compile_fds(descriptors)?;
    Ok(())
}
