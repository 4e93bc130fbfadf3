from trpo_deploy.spec.policy_spec import PolicySpec


def readme_text(spec: PolicySpec, name: str) -> str:
    return name
