//! What a function takes and returns, and whether a journal can hold it.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::{
    Error, FnArg, Ident, Result, ReturnType, Signature, Type, TypeImplTrait, TypeReference,
    spanned::Spanned,
    visit::{self, Visit},
};

/// How many arguments a tuple can have that serde reads and writes.
const MAX_ARGUMENTS: usize = 16;

/// A function of a workflow or activity whose arguments and result can be journaled.
pub(crate) struct Arguments<'a> {
    /// The type of the context that it takes first.
    pub(crate) context: Option<&'a Type>,
    /// The types of its other arguments.
    inputs: Vec<&'a Type>,
    /// What it returns.
    result: &'a Type,
}

/// What a function is to be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Workflow,
    Activity,
}

impl Role {
    const fn noun(self) -> &'static str {
        match self {
            Self::Workflow => "a workflow",
            Self::Activity => "an activity",
        }
    }
}

impl<'a> Arguments<'a> {
    /// Of a function, or of a method without its `&self`.
    ///
    /// # Errors
    ///
    /// When the function cannot be what it is to be.
    pub(crate) fn of(role: Role, signature: &'a Signature) -> Result<Self> {
        let noun = role.noun();
        if signature.asyncness.is_none() {
            let message = format!(
                "{noun} is an async function: `async fn {}`",
                signature.ident
            );
            return Err(Error::new_spanned(signature.fn_token, message));
        }
        if !signature.generics.params.is_empty() {
            let message = format!(
                "{noun} cannot be generic: the journal knows it by one name, with one type of input"
            );
            return Err(Error::new_spanned(&signature.generics, message));
        }
        let ReturnType::Type(_, result) = &signature.output else {
            let message =
                format!("{noun} returns a `Result`, whose error is a `Failure` or a `TypedError`");
            return Err(Error::new_spanned(&signature.ident, message));
        };
        let mut inputs: Vec<&Type> = Vec::new();
        for argument in &signature.inputs {
            if let FnArg::Typed(argument) = argument {
                inputs.push(&argument.ty);
            }
        }
        let context = context(role, signature, &inputs)?;
        let inputs: Vec<_> = inputs.split_off(usize::from(context.is_some()));
        for input in &inputs {
            check_input(role, input)?;
        }
        if inputs.len() > MAX_ARGUMENTS {
            let message = format!("more than {MAX_ARGUMENTS} arguments: put them into a struct");
            return Err(Error::new_spanned(&signature.inputs, message));
        }
        check_owned(
            result,
            "is read back from the journal in every replay: return an owned value",
        )?;
        Ok(Self {
            context,
            inputs,
            result,
        })
    }

    /// The type of the input: the argument, or the tuple of all.
    pub(crate) fn input(&self) -> TokenStream {
        match self.inputs.as_slice() {
            [one] => quote!(#one),
            several => quote!((#(#several),*)),
        }
    }

    /// The pattern that takes an input apart, and the names in it.
    pub(crate) fn pattern(&self) -> (TokenStream, Vec<Ident>) {
        let names: Vec<_> = (0..self.inputs.len())
            .map(|index| format_ident!("argument_{index}"))
            .collect();
        match names.as_slice() {
            [one] => (quote!(#one), names),
            several => (quote!((#(#several),*)), names),
        }
    }

    /// The types of the result's two sides, as associated types.
    pub(crate) fn outcome(&self) -> TokenStream {
        let result = self.result;
        quote_spanned! {result.span()=>
            type Output = <#result as ::sync_workflow::context::Outcome>::Output;
            type Error = <#result as ::sync_workflow::context::Outcome>::Error;
        }
    }
}

/// The context among the arguments, which comes first.
fn context<'a>(role: Role, signature: &Signature, inputs: &[&'a Type]) -> Result<Option<&'a Type>> {
    let first = inputs.first().copied();
    match (role, first.and_then(last_name)) {
        (Role::Workflow, Some(name)) if name == "Context" => Ok(first),
        (Role::Activity, Some(name)) if name == "ActivityContext" => Ok(first),
        (Role::Workflow, _) => {
            let message = "a workflow takes its `Context` first";
            Err(match first {
                Some(first) => Error::new(first.span(), message),
                None => Error::new_spanned(&signature.ident, message),
            })
        }
        (Role::Activity, _) => Ok(None),
    }
}

/// Checks one argument that is not the context in its place.
fn check_input(role: Role, input: &Type) -> Result<()> {
    let name = last_name(input);
    let message = match role {
        Role::Activity if name.is_some_and(|name| name == "Context") => {
            "an activity has no `Context`: durable calls belong in workflows. What an activity may take, \
             first of all, is an `ActivityContext`"
        }
        _ if name.is_some_and(|name| name == "ActivityContext") => match role {
            Role::Activity => "the `ActivityContext` comes first",
            Role::Workflow => "a workflow has a `Context`; an `ActivityContext` is for activities",
        },
        _ => {
            return check_owned(
                input,
                "is read back from the journal after a crash: take an owned value",
            );
        }
    };
    Err(Error::new_spanned(input, message))
}

/// Checks that a type lives by itself and has one meaning.
fn check_owned(checked: &Type, message: &str) -> Result<()> {
    struct Borrowed<'m> {
        message: &'m str,
        error: Option<Error>,
    }
    impl<'ast> Visit<'ast> for Borrowed<'_> {
        fn visit_type_reference(&mut self, reference: &'ast TypeReference) {
            let message = format!("this {}{}", self.message, instead(&reference.elem));
            self.error = Some(Error::new_spanned(reference, message));
        }

        fn visit_type_impl_trait(&mut self, any: &'ast TypeImplTrait) {
            let message = "name the type: the journal must know what it holds";
            self.error = Some(Error::new_spanned(any, message));
        }
    }
    let mut borrowed = Borrowed {
        message,
        error: None,
    };
    visit::visit_type(&mut borrowed, checked);
    borrowed.error.map_or(Ok(()), Err)
}

/// What is owned instead of a reference, where everybody takes the same.
fn instead(referred: &Type) -> &'static str {
    match (referred, last_name(referred)) {
        (_, Some(name)) if name == "str" => ", here `String`",
        (Type::Slice(_), _) => ", here a `Vec`",
        _ => "",
    }
}

fn last_name(of: &Type) -> Option<&Ident> {
    match of {
        Type::Path(path) => path.path.segments.last().map(|segment| &segment.ident),
        _ => None,
    }
}
