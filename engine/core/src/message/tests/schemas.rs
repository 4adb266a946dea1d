//! Messages with a schema, compared with the library that the schema is read with.

use prost_reflect::prost::Message as _;
use prost_reflect::prost_types::{
    DescriptorProto, EnumDescriptorProto, EnumValueDescriptorProto, FieldDescriptorProto,
    FileDescriptorProto, FileDescriptorSet, MessageOptions, MethodDescriptorProto,
    ServiceDescriptorProto,
    field_descriptor_proto::{Label, Type},
};
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};

use super::rpc::{Call, Half, envelopes};
use super::*;
use crate::message::protobuf::JsonWriter;

fn field(name: &str, number: i32, kind: Type, of: &str, is_list: bool) -> FieldDescriptorProto {
    let label = if is_list {
        Label::Repeated
    } else {
        Label::Optional
    };
    FieldDescriptorProto {
        name: Some(name.to_owned()),
        number: Some(number),
        label: Some(label.into()),
        r#type: Some(kind.into()),
        type_name: (!of.is_empty()).then(|| of.to_owned()),
        ..Default::default()
    }
}

/// A set with a service, a type with a field of every kind, and the well-known types.
fn set() -> Vec<u8> {
    let scalars = [
        Type::Double,
        Type::Float,
        Type::Int64,
        Type::Uint64,
        Type::Int32,
        Type::Fixed64,
        Type::Fixed32,
        Type::Bool,
        Type::String,
        Type::Bytes,
        Type::Uint32,
        Type::Sfixed32,
        Type::Sfixed64,
        Type::Sint32,
        Type::Sint64,
    ];
    let mut fields: Vec<_> = scalars
        .iter()
        .zip(1..)
        .map(|(kind, number)| field(&format!("one_{number}"), number, *kind, "", false))
        .collect();
    let lists = scalars.iter().zip(21..);
    fields.extend(
        lists.map(|(kind, number)| field(&format!("list_{number}"), number, *kind, "", true)),
    );
    let typed = [
        (41, Type::Enum, ".t.Colour", false),
        (42, Type::Enum, ".t.Colour", true),
        (43, Type::Message, ".t.All", false),
        (44, Type::Message, ".t.All", true),
        (45, Type::Message, ".t.All.NamesEntry", true),
        (46, Type::Message, ".google.protobuf.Timestamp", false),
        (47, Type::Message, ".google.protobuf.Duration", false),
        (48, Type::Message, ".google.protobuf.Struct", false),
        (49, Type::Message, ".google.protobuf.StringValue", false),
        (50, Type::Message, ".google.protobuf.Any", false),
        (51, Type::Message, ".google.protobuf.FieldMask", false),
        (52, Type::Message, ".google.protobuf.Int64Value", false),
    ];
    fields.extend(typed.map(|(number, kind, of, is_list)| {
        field(&format!("typed_{number}"), number, kind, of, is_list)
    }));
    let entry = DescriptorProto {
        name: Some("NamesEntry".to_owned()),
        field: vec![
            field("key", 1, Type::Int32, "", false),
            field("value", 2, Type::String, "", false),
        ],
        options: Some(MessageOptions {
            map_entry: Some(true),
            ..Default::default()
        }),
        ..Default::default()
    };
    // A map has the name of its entries.
    for field in &mut fields {
        if field.number == Some(45) {
            field.name = Some("names".to_owned());
        }
    }
    let value = |name: &str, number| EnumValueDescriptorProto {
        name: Some(name.to_owned()),
        number: Some(number),
        ..Default::default()
    };
    let global = DescriptorPool::global();
    let mut files: Vec<FileDescriptorProto> = global.file_descriptor_protos().cloned().collect();
    let dependency = files.iter().map(|file| file.name().to_owned()).collect();
    files.push(FileDescriptorProto {
        name: Some("t.proto".to_owned()),
        package: Some("t".to_owned()),
        dependency,
        syntax: Some("proto3".to_owned()),
        message_type: vec![DescriptorProto {
            name: Some("All".to_owned()),
            field: fields,
            nested_type: vec![entry],
            ..Default::default()
        }],
        enum_type: vec![EnumDescriptorProto {
            name: Some("Colour".to_owned()),
            value: vec![value("RED", 0), value("BLUE", 5)],
            ..Default::default()
        }],
        service: vec![ServiceDescriptorProto {
            name: Some("Shop".to_owned()),
            method: vec![MethodDescriptorProto {
                name: Some("Buy".to_owned()),
                input_type: Some(".t.All".to_owned()),
                output_type: Some(".google.protobuf.Timestamp".to_owned()),
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    });
    FileDescriptorSet { file: files }.encode_to_vec()
}

fn all() -> MessageDescriptor {
    let pool = DescriptorPool::decode(&set()[..]).expect("a set");
    pool.get_message_by_name("t.All").expect("the type")
}

fn typed(kind: &MessageDescriptor, message: &[u8]) -> String {
    let mut out = Vec::new();
    JsonWriter::default().write_typed(kind, message, false, usize::MAX, &mut out);
    String::from_utf8(out).expect("JSON is text")
}

/// The same values as the library has.
#[track_caller]
fn check(json: &str) {
    let kind = all();
    let mut reader = serde_json::Deserializer::from_str(json);
    let message = DynamicMessage::deserialize(kind.clone(), &mut reader).expect("a message");
    let expected: Value = serde_json::to_value(&message).expect("JSON");
    let ours = typed(&kind, &message.encode_to_vec());
    let found: Value =
        serde_json::from_str(&ours).unwrap_or_else(|error| panic!("{error}: {ours}"));
    assert_eq!(found, expected, "{ours}");
}

#[test]
fn canonical_json_is_that_of_the_library() {
    check(
        r#"{"one1":1.5,"one2":0.25,"one3":"-7","one4":"18446744073709551615","one5":-3,"one6":"9","one7":8}"#,
    );
    check(
        r#"{"one8":true,"one9":"grüße \"q\"","one10":"AQID/w==","one11":4294967295,"one12":-1,"one13":"-2"}"#,
    );
    check(
        r#"{"one14":-2147483648,"one15":"-9223372036854775808","one1":"NaN","one2":"-Infinity"}"#,
    );
    check(
        r#"{"list21":[1.0,2.5],"list22":[0.5],"list23":["1","-1"],"list24":["1"],"list25":[1,-1],"list26":["3"]}"#,
    );
    check(
        r#"{"list27":[4],"list28":[true,false],"list29":["a",""],"list30":["","AA=="],"list31":[1],"list32":[-5]}"#,
    );
    check(
        r#"{"list33":["-5"],"list34":[-64,63],"list35":["-64"],"typed41":"BLUE","typed42":["RED","BLUE",7]}"#,
    );
    check(
        r#"{"typed43":{"one9":"in","typed43":{"one5":1}},"typed44":[{},{"one9":"b"}],"names":{"-3":"c","0":""}}"#,
    );
    check(
        r#"{"typed46":"1972-01-01T10:00:20.021Z","typed47":"-1.500s","typed49":"w","typed52":"0"}"#,
    );
    check(r#"{"typed46":"0001-01-01T00:00:00Z","typed47":"3.000000001s"}"#);
    check(r#"{"typed46":"2000-02-29T23:59:59.999999999Z","typed51":"fooBar,a.bC"}"#);
    check(r#"{"typed48":{"a":null,"b":[1,"x",true,{}],"c":{"d":-2.5}}}"#);
    check(r#"{"typed50":{"@type":"type.googleapis.com/t.All","one9":"any"}}"#);
    check(r#"{"typed50":{"@type":"type.googleapis.com/google.protobuf.Duration","value":"2s"}}"#);
    check("{}");
}

#[test]
fn what_the_schema_does_not_have_keeps_its_number() {
    let kind = all();
    // A number without a field, and a field in another wire type.
    assert_eq!(typed(&kind, b"\xc0\x3e\x07\x48\x05"), r#"{"1000":7,"9":5}"#);
    assert_eq!(
        typed(&kind, b"\x28\x01\x28\x02"),
        r#"{"one5":2}"#,
        "the last one counts"
    );
    let merged = b"\xda\x02\x02\x28\x01\xda\x02\x03\x4a\x01x";
    assert_eq!(typed(&kind, merged), r#"{"typed43":{"one5":1,"one9":"x"}}"#);
    assert_eq!(typed(&kind, b"\x07"), r#""\u0007""#);
    let mixed = b"\xc8\x01\x01\xca\x01\x02\x02\x03";
    assert_eq!(typed(&kind, mixed), r#"{"list25":[1,2,3]}"#);
    // A URL that no type is known for.
    let any = b"\x92\x03\x08\x0a\x03a/b\x12\x01x";
    assert_eq!(
        typed(&kind, any),
        r#"{"typed50":{"@type":"a/b","value":"eA=="}}"#
    );
}

#[test]
fn hostile_bytes_end_within_bounds() {
    let kind = all();
    let mut state = 11_u64;
    for _ in 0..20_000 {
        let mut message = Vec::new();
        for _ in 0..state % 24 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            message.push(
                *b"\x0a\x12\xda\x02\xea\xf2\x92\x03\x04\x08\x01\xff\x80\x28\x4a\x00"
                    .get((state >> 60) as usize)
                    .unwrap(),
            );
        }
        let text = typed(&kind, &message);
        serde_json::from_str::<Value>(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        for is_cut in [true, false] {
            let mut out = Vec::new();
            JsonWriter::default().write_typed(&kind, &message, is_cut, 10, &mut out);
            assert!(out.len() < 400, "{}", String::from_utf8_lossy(&out));
        }
    }
    let mut nested = vec![0x28, 1];
    for _ in 0..20_000 {
        if nested.len() > 100 {
            break;
        }
        nested = [&[0xda, 0x02, nested.len() as u8], &nested[..]].concat();
    }
    assert!(typed(&kind, &nested).matches("typed43").count() > 20);
}

#[test]
fn names_replace_numbers_in_a_call_and_rules_reach_them() {
    let body = envelopes(&[b"\x4a\x044111\x28\x07"]);
    let answer = Half::new("application/grpc", envelopes(&[b"\x08\x05"]));
    let mut call = Call::new(Half::new("application/grpc", body), answer);
    call.path = "/t.Shop/Buy";
    call.config.schemas = Some(Arc::new(Schemas::read(&set()).expect("a set")));
    call.check(&[
        ("request_body", Some(r#"[{"one9":"4111","one5":7}]"#)),
        ("response_body", Some(r#"["1970-01-01T00:00:05Z"]"#)),
    ]);
    call.rules = "/request_body:$.one9/ remove";
    call.check(&[("request_body", Some(r#"[{"one5":7}]"#))]);
    call.path = "/t.Shop/Other";
    call.rules = "";
    call.check(&[("request_body", Some(r#"[{"9":"4111","5":7}]"#))]);
}

#[test]
fn a_set_that_is_none_is_refused() {
    assert!(Schemas::read(b"no set").is_err());
    assert!(Schemas::read(b"").is_err_and(|why| why.contains("service")));
}
