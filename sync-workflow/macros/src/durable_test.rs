//! Tests that are played with crashes.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::{Error, ItemFn, Result, spanned::Spanned};

use crate::options::{Options, missing};

/// A plain test that plays the function.
pub(crate) fn durable_test(options: &Options, function: &ItemFn) -> Result<TokenStream> {
    let signature = &function.sig;
    if signature.asyncness.is_none() {
        let message = "a durable test is an async function, which the test environment runs";
        return Err(Error::new_spanned(signature.fn_token, message));
    }
    let Some(worker) = options.expression("worker") else {
        return Err(missing(
            "a durable test needs a worker, more than once: `worker = shop`, a function that makes one",
        ));
    };
    let seeds = options
        .expression("seeds")
        .map_or_else(|| quote!(0..16), |seeds| quote!(#seeds));
    let ident = &signature.ident;
    let (worker, scenario) = match signature.inputs.len() {
        1 => (
            quote_spanned! {worker.span()=> {
                let worker = #worker;
                move |_: &::std::sync::Arc<()>| worker()
            }},
            quote!(async |env: &::sync_workflow::testing::TestEnvironment, _: &()| #ident(env).await),
        ),
        2 => (quote!(#worker), quote!(#ident)),
        _ => {
            return Err(Error::new_spanned(
                &signature.ident,
                "a durable test takes a `&TestEnvironment`, and perhaps a reference to the effects of its activities",
            ));
        }
    };
    let (attributes, block) = (&function.attrs, &function.block);
    Ok(quote! {
        #(#attributes)*
        #[test]
        fn #ident() {
            #signature #block
            ::sync_workflow::testing::durable_test(#seeds, #worker, #scenario);
        }
    })
}
