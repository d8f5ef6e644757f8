/** Examples of text fields in the OpenAPI document. Swagger UI shows `string` for a field that has none. Pure. */

const agentId = "0b8f5c1e-7a52-4f0d-9c3e-2f6a1d4b8e90"

const examplesByField: Record<string, string> = {
  action: "tunnel.create",
  actorName: "deploy",
  actor: "token:xg65cfsUJU1k",
  address: "198.51.100.23",
  agentId,
  agents: "home",
  AgentId: agentId,
  apiKey: "ctl_agt_sLNvG0kPvcu3_…",
  certificate: "-----BEGIN CERTIFICATE-----\n…\n-----END CERTIFICATE-----",
  check: "certificates",
  ClientName: "home",
  clientId: agentId,
  clientName: "home",
  clientVersion: "control-client/0.3.0",
  code: "port_in_use",
  createdBy: "admin",
  detail: "There is no tunnel with this domain or id.",
  domain: "app.example.com",
  endpoint: "198.51.100.4:40112",
  entityId: agentId,
  entityType: "tunnel",
  fields: "target",
  gatewayName: "edge-1",
  GatewayId: "c2d17f36-5b0e-4a7b-8f1d-6e9a3b5c7d21",
  HostName: "app.example.com",
  HostNameEncoded: "app.example.com",
  id: agentId,
  instance: "/api/tunnels/app.example.com",
  level: "control.v1",
  MasterKeyId: "9f86d081884c7d65",
  message: "port 8080 is in use",
  name: "home",
  nextCursor: "MTc2NDU2NzYwMDAwMDAwMA",
  node: "server-1",
  path: "name",
  privateKey: "-----BEGIN PRIVATE KEY-----\n…\n-----END PRIVATE KEY-----",
  publicIp: "203.0.113.7",
  reason: "the target is no address",
  remedy: "Renew the certificate.",
  SessionId: "V1StGXR8Z5jdHi6BmyT0a",
  source: "gateway:edge-1",
  status: "active",
  subnet: "10.64.0.0/24",
  target: "localhost:8080",
  Timeline: "6b0c2a52-9f7e-4d57-8a54-3f6a4b1c7d10",
  token: "ctl_adm_xg65cfsUJU1k_…",
  TunnelId: "e4a6b8c0-1d2f-4e3a-9b5c-7d8e9f0a1b2c",
  tunnelId: "e4a6b8c0-1d2f-4e3a-9b5c-7d8e9f0a1b2c",
  version: "0.3.0",
  virtualIp: "10.64.0.1",
  what: "The certificate of app.example.com expires soon.",
  why: "Visitors will see an error.",
  wireguardPublicKey: "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="
}

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null

/** The document with an example for each text of `examplesByField`; existing examples stay. */
export function addExamples<A>(node: A, field = ""): A {
  if (Array.isArray(node)) return node.map((item) => addExamples(item, field)) as A
  if (!isObject(node)) return node
  const example = examplesByField[field.replace(/_\d+$/u, "")]
  const lacksExample = node["type"] === "string" && !["examples", "enum", "const"].some((key) => key in node)
  const entries = Object.entries(node).map(([key, value]) =>
    [key, addExamples(value, key === "anyOf" || key === "items" ? field : key)] as const
  )
  const copy = Object.fromEntries(entries)
  return (lacksExample && example !== undefined ? { ...copy, examples: [example] } : copy) as A
}
