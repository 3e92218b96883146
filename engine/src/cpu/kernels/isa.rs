//! Which instruction set runs the kernels: the best the processor has, or the one `ROBUST_KERNELS` names.

#[cfg(target_arch = "aarch64")]
use super::neon::Neon;
use super::simd::{Portable, Simd};
#[cfg(target_arch = "x86_64")]
use super::x86::{Avx2, Avx512};
use robust_core::{Error, Result};
use std::sync::OnceLock;

/// An instruction set that this processor has: values come from [`Isa::all`] alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Isa(Set);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Set {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "aarch64")]
    Neon,
}

/// A piece of vector code; `run` must be `#[inline(always)]` so that it is compiled for the instruction set.
pub(super) trait Kernel {
    type Output;
    /// # Safety
    /// The processor has the instructions of `S`, and the kernel's own conditions hold.
    unsafe fn run<S: Simd>(self) -> Self::Output;
}

impl Isa {
    /// Every set this processor has, the slowest first.
    pub(crate) fn all() -> Vec<Self> {
        #[allow(unused_mut, reason = "other architectures have one set")]
        let mut all = vec![Self(Set::Portable)];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                all.push(Self(Set::Avx2));
            }
            if is_x86_feature_detected!("avx512f") {
                all.push(Self(Set::Avx512));
            }
        }
        #[cfg(target_arch = "aarch64")]
        all.push(Self(Set::Neon));
        all
    }

    /// The set `ROBUST_KERNELS` names, or the best.
    ///
    /// # Errors
    /// Kind `Usage` when the variable names an unknown set or one this processor lacks.
    pub(crate) fn chosen() -> Result<Self> {
        static CHOSEN: OnceLock<Result<Isa, String>> = OnceLock::new();
        let chosen = CHOSEN.get_or_init(|| {
            let wanted = std::env::var("ROBUST_KERNELS").unwrap_or_default();
            Self::named(&wanted).ok_or(wanted)
        });
        chosen.clone().map_err(|wanted| {
            let known: Vec<&str> = Self::all().into_iter().map(Self::name).collect();
            Error::usage(format!("ROBUST_KERNELS={wanted} names no kernels that this processor can run"))
                .hint(format!("it can run: {}; unset the variable for the fastest", known.join(", ")))
        })
    }

    /// The set of this name, the best for an empty one.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let all = Self::all();
        match name {
            "" => all.last().copied(),
            name => all.into_iter().find(|i| i.name() == name),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self.0 {
            Set::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => "avx512",
            #[cfg(target_arch = "aarch64")]
            Set::Neon => "neon",
        }
    }

    /// Rows and columns of a tile of a matrix product.
    pub(super) fn tile(self) -> (usize, usize) {
        fn of<S: Simd>() -> (usize, usize) {
            (S::ROWS, S::VECTORS * S::LANES)
        }
        match self.0 {
            Set::Portable => of::<Portable>(),
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => of::<Avx2>(),
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => of::<Avx512>(),
            #[cfg(target_arch = "aarch64")]
            Set::Neon => of::<Neon>(),
        }
    }

    /// # Safety
    /// The kernel's own conditions hold.
    pub(super) unsafe fn run<K: Kernel>(self, kernel: K) -> K::Output {
        // SAFETY: a set is only made where the processor has it; the rest is the caller's promise.
        unsafe {
            match self.0 {
                Set::Portable => kernel.run::<Portable>(),
                #[cfg(target_arch = "x86_64")]
                Set::Avx2 => avx2(kernel),
                #[cfg(target_arch = "x86_64")]
                Set::Avx512 => avx512(kernel),
                #[cfg(target_arch = "aarch64")]
                Set::Neon => kernel.run::<Neon>(),
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: the caller's promise.
    unsafe { kernel.run::<Avx2>() }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx2,fma")]
unsafe fn avx512<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: the caller's promise.
    unsafe { kernel.run::<Avx512>() }
}
