"""The contract's YAML as a source of requests: schemathesis against a live server whose ids it knows (`world`), with our
own checks beside its own (`hooks`), counted (`run`)."""
