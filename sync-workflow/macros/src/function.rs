//! Workflows and activities that are functions.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::{Attribute, Error, FnArg, Ident, ItemFn, Result, ext::IdentExt};

use crate::{
    arguments::{Arguments, Role},
    options::Options,
};

/// A type that implements `Workflow`.
pub(crate) fn workflow(options: &Options, function: &ItemFn) -> Result<TokenStream> {
    refuse_receiver(
        function,
        "a workflow with `&self` implements the trait `Workflow`",
    )?;
    let arguments = Arguments::of(Role::Workflow, &function.sig)?;
    let name = options.name(|| function.sig.ident.unraw().to_string())?;
    let ident = &function.sig.ident;
    let (unit, outcome) = (unit(function, "workflow"), arguments.outcome());
    let (input, (pattern, names)) = (arguments.input(), arguments.pattern());
    let run = quote_spanned! {ident.span()=>
        async fn run(
            &self,
            context: ::sync_workflow::Context,
            #pattern: Self::Input,
        ) -> ::core::result::Result<Self::Output, Self::Error> {
            Self::call(context, #(#names),*).await
        }
    };
    Ok(quote! {
        #unit

        #[automatically_derived]
        impl ::sync_workflow::Workflow for #ident {
            const NAME: &'static str = #name;
            type Input = #input;
            #outcome
            #run
        }
    })
}

/// A type that implements `Activity`.
pub(crate) fn activity(options: &Options, function: &ItemFn) -> Result<TokenStream> {
    refuse_receiver(function, "put `#[activities]` on the impl block around it")?;
    let arguments = Arguments::of(Role::Activity, &function.sig)?;
    let name = options.name(|| function.sig.ident.unraw().to_string())?;
    let ident = &function.sig.ident;
    let unit = unit(function, "activity");
    let activity = implementation(
        ident,
        ident,
        &name,
        &arguments,
        options,
        &quote!(Self::call),
    );
    Ok(quote! {
        #unit
        #activity
    })
}

/// The implementation of `Activity` for a type, by code that takes the arguments one by one.
pub(crate) fn implementation(
    ident: &Ident,
    written: &Ident,
    name: &str,
    arguments: &Arguments<'_>,
    options: &Options,
    code: &TokenStream,
) -> TokenStream {
    let outcome = arguments.outcome();
    let (input, (pattern, names)) = (arguments.input(), arguments.pattern());
    let options = options.of_calls();
    let context = arguments.context.map(|_| quote!(context,));
    let run = quote_spanned! {written.span()=>
        async fn run(
            &self,
            context: ::sync_workflow::ActivityContext,
            #pattern: Self::Input,
        ) -> ::core::result::Result<Self::Output, Self::Error> {
            let _ = &context;
            #code(#context #(#names),*).await
        }
    };
    quote! {
        #[automatically_derived]
        impl ::sync_workflow::Activity for #ident {
            const NAME: &'static str = #name;
            type Input = #input;
            #outcome
            #options
            #run
        }
    }
}

/// The type that stands for a function, with the function in it, and a function that gives a value of the type. Only a function's
/// name can be that of a variable too.
fn unit(function: &ItemFn, role: &str) -> TokenStream {
    let ItemFn {
        attrs,
        vis,
        sig,
        block,
        ..
    } = function;
    let ident = &sig.ident;
    let (docs, others): (Vec<&Attribute>, Vec<_>) = attrs
        .iter()
        .partition(|attribute| attribute.path().is_ident("doc"));
    let mut called = sig.clone();
    called.ident = Ident::new("call", ident.span());
    let told = format!("The code of the {role}, called like any function.");
    let none = docs.is_empty().then(|| format!("The {role} `{ident}`."));
    let none = none.map(|none| quote!(#[doc = #none]));
    let docs = quote!(#(#docs)* #none);
    let quiet = quote!(#[allow(non_camel_case_types)]);
    quote! {
        #docs
        #quiet
        #[derive(Debug, Clone, Copy)]
        #vis struct #ident {}

        #docs
        #vis const fn #ident() -> #ident {
            #ident {}
        }

        impl #ident {
            #[doc = #told]
            #(#others)*
            #vis #called #block
        }
    }
}

fn refuse_receiver(function: &ItemFn, message: &str) -> Result<()> {
    match function.sig.inputs.first() {
        Some(FnArg::Receiver(receiver)) => Err(Error::new_spanned(receiver, message)),
        _ => Ok(()),
    }
}
