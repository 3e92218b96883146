//! The worked example of CONTRIBUTING.md, followed to the letter: the file compiles as it stands there, and what it adds
//! behaves as an attack of the index must.

#[path = "contributing/gradient_descent.rs"]
mod gradient_descent;

use robust_core::{Spec, documentation};

#[test]
fn the_example_builds_documents_itself_and_refuses_nonsense() {
    let entry = &gradient_descent::ENTRY;
    let built = (entry.build)(&Spec::parse("gradient-descent:steps=3").unwrap()).unwrap();
    assert_eq!(built.attack.passes(), (4, 3));
    assert_eq!(built.params["step"], 0.01);
    assert!((entry.build)(&Spec::parse("gradient-descent:stepps=3").unwrap()).is_err());
    assert!((entry.build)(&Spec::parse("gradient-descent:steps=0").unwrap()).is_err());
    for heading in ["# Asks", "# Steps", "# Parameters", "# Differs from the paper", "# Cost per sample"] {
        assert!(documentation(entry.source).contains(heading), "{heading}");
    }
}
