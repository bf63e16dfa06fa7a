//! Wrong declarations do not compile, and the compiler says what would be right.

#[test]
fn wrong_declarations_are_explained() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}
