//! Tells the code whether the HDF5 library gives and takes chunks as they are stored (1.10.5 and later).

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(hdf5_chunks)");
    // Said by the build script of hdf5-metno-sys for every version up to that of the library.
    if std::env::var_os("DEP_HDF5_VERSION_1_10_5").is_some() {
        println!("cargo::rustc-cfg=hdf5_chunks");
    }
}
