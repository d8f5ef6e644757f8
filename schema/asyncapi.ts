/** The protocol as an AsyncAPI 3.0 document, made from its schemas. Pure. */
import { JsonSchema } from "effect"
import type { ClientType } from "./ids.ts"
import { type Level, subprotocols } from "./protocol.ts"
import { clientTypes, definitionsOf, members, multiDocument, receiversOf, unionOf } from "./renderSchema.ts"

/** As Control sees it: it receives what clients say. */
export const asyncApi = () => ({
  asyncapi: "3.0.0",
  id: "urn:control:protocol",
  info: {
    title: "Control protocol",
    version: "1.0.0",
    description: "What agents, gateways and Control say to each other over a WebSocket, as Control sees it: " +
      "it receives what clients say. One text frame is one message. The order of messages, their meaning and " +
      "every limit are told in protocol.md.",
    license: { name: "MIT", url: "https://opensource.org/license/mit" }
  },
  defaultContentType: "application/json",
  servers,
  channels: Object.fromEntries(levels.map((level) => [level, channel(level)])),
  operations: Object.fromEntries(levels.flatMap((level) => clientTypes.flatMap((type) => operations(level, type)))),
  components: {
    messages: Object.assign({}, ...levels.map(messages)),
    schemas: Object.assign({}, ...levels.map(schemas))
  }
})

const levels: ReadonlyArray<Level> = ["plain", ...subprotocols]

const servers = {
  control: {
    host: "{host}:{port}",
    protocol: "ws",
    description: "Control itself, which speaks no TLS.",
    variables: {
      host: { default: "localhost", description: "Where Control listens." },
      port: { default: "3001", description: "CONTROL_WS_PORT." }
    }
  },
  proxied: {
    host: "{host}",
    protocol: "wss",
    description: "Control behind a proxy that ends TLS.",
    variables: { host: { default: "control.example", description: "The proxy's name." } }
  }
}

function channel(level: Level) {
  return {
    address: "/",
    title: level === "plain" ? "The plain level" : level,
    description: level === "plain"
      ? "What a client gets that offers no subprotocol."
      : `What a client gets that offers the subprotocol \`${level}\`.`,
    messages: Object.fromEntries(namesAt(level).map((name) => [name, { $ref: `#/components/messages/${name}` }])),
    bindings: {
      ws: { method: "GET", query, ...(level === "plain" ? {} : { headers: headers(level) }), bindingVersion }
    }
  }
}

/** Of AsyncAPI's WebSockets bindings: in them, since an address has no query (AsyncAPI 3.0, "Channel Object"). */
const bindingVersion = "0.1.0"

const query = {
  type: "object",
  properties: {
    type: {
      type: "string",
      enum: clientTypes,
      description: "With it, a key of the other kind is an invalid key; without it, the key decides."
    }
  }
}

function headers(level: Level) {
  const offered = { type: "string", const: level, description: "The subprotocol that is offered (RFC 6455)." }
  return {
    type: "object",
    properties: { "Sec-WebSocket-Protocol": offered },
    required: ["Sec-WebSocket-Protocol"]
  }
}

function operations(level: Level, type: ClientType) {
  const suffix = level === "plain" ? "" : "V1"
  const noun = type === "agent" ? "Agents" : "Gateways"
  const at = level === "plain" ? "at the plain level" : `in ${level}`
  const refersTo = (names: ReadonlyArray<string>) => ({
    channel: { $ref: `#/channels/${level}` },
    messages: names.map((name) => ({ $ref: `#/channels/${level}/messages/${name}` }))
  })
  const said = members(definitions[level], unionOf[type])
  const heard = members(definitions[level], "ControlMessage").filter((name) => receiversOf(name).includes(type))
  return [
    [`receiveFrom${noun}${suffix}`, { action: "receive", title: `What ${type}s say ${at}`, ...refersTo(said) }],
    [`sendTo${noun}${suffix}`, { action: "send", title: `What ${type}s hear ${at}`, ...refersTo(heard) }]
  ] as const
}

function messages(level: Level) {
  return Object.fromEntries(
    namesAt(level).map((name) => {
      const { description, examples = [], title } = definitions[level][name] ?? {}
      const payload = { $ref: `#/components/schemas/${name}` }
      return [name, { name: title, title, summary: description, payload, examples: examples.map(asExample) }]
    })
  )
}

function asExample(payload: unknown) {
  return { payload }
}

function namesAt(level: Level): ReadonlyArray<string> {
  return [...members(definitions[level], "ClientMessage"), ...members(definitions[level], "ControlMessage")]
}

/** Nothing in them is newer than draft-07, which AsyncAPI's own schemas follow. What is the same at both levels has one name. */
function schemas(level: Level): JsonSchema.Definitions {
  const { definitions } = JsonSchema.toMultiDocumentOpenApi3_1(multiDocument(level))
  return Object.fromEntries(Object.entries(definitions).map(([name, { examples: _, ...schema }]) => [name, schema]))
}

const definitions = { plain: definitionsOf("plain"), "control.v1": definitionsOf("control.v1") }
