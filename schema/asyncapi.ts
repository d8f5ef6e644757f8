/** Renders the protocol as an AsyncAPI 3.0 document. Pure. */
import { JsonSchema } from "effect"
import type { ClientType } from "./ids.ts"
import { type Level, subprotocols } from "./protocol.ts"
import { clientTypes, clientUnionNames, definitionsOf, members, multiDocument, receiversOf } from "./renderSchema.ts"

/** The document describes the protocol from Control's point of view: Control receives what clients send. */
export const asyncApi = () => ({
  asyncapi: "3.0.0",
  id: "urn:control:protocol",
  info: {
    title: "Control protocol",
    version: "1.0.0",
    description:
      "WebSocket messages between agents, gateways and Control. The document takes Control's point of view: " +
      "Control receives what clients send. One text frame is one message. protocol.md describes the order of " +
      "messages, their meaning and every limit.",
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
    description: "Direct connection without TLS.",
    variables: {
      host: { default: "localhost", description: "Host name or address of Control." },
      port: { default: "3001", description: "Port set by CONTROL_WS_PORT." }
    }
  },
  proxied: {
    host: "{host}",
    protocol: "wss",
    description: "Connection through a proxy that terminates TLS.",
    variables: { host: { default: "control.example", description: "Host name of the proxy." } }
  }
}

function channel(level: Level) {
  return {
    address: "/",
    title: level === "plain" ? "The plain level" : level,
    description: level === "plain"
      ? "Messages for clients that offer no subprotocol."
      : `Messages for clients that offer the subprotocol \`${level}\`.`,
    messages: Object.fromEntries(namesAt(level).map((name) => [name, { $ref: `#/components/messages/${name}` }])),
    bindings: {
      ws: { method: "GET", query, ...(level === "plain" ? {} : { headers: headers(level) }), bindingVersion }
    }
  }
}

/**
 * Version of AsyncAPI's WebSockets binding. The binding describes the query, because a channel's address has none
 * (AsyncAPI 3.0, "Channel Object").
 */
const bindingVersion = "0.1.0"

const query = {
  type: "object",
  properties: {
    type: {
      type: "string",
      enum: clientTypes,
      description:
        "Type of the client. A key of the other type is then invalid. Without this parameter, the key decides."
    }
  }
}

function headers(level: Level) {
  const offered = { type: "string", const: level, description: "Offered subprotocol (RFC 6455)." }
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
  const received = members(definitions[level], clientUnionNames[type])
  const sent = members(definitions[level], "ControlMessage").filter((name) => receiversOf(name).includes(type))
  return [
    [`receiveFrom${noun}${suffix}`, {
      action: "receive",
      title: `Messages from ${type}s ${at}`,
      ...refersTo(received)
    }],
    [`sendTo${noun}${suffix}`, { action: "send", title: `Messages to ${type}s ${at}`, ...refersTo(sent) }]
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

/** These schemas use nothing newer than draft-07, as AsyncAPI requires. A schema that both levels share has one name. */
function schemas(level: Level): JsonSchema.Definitions {
  const { definitions } = JsonSchema.toMultiDocumentOpenApi3_1(multiDocument(level))
  return Object.fromEntries(Object.entries(definitions).map(([name, { examples: _, ...schema }]) => [name, schema]))
}

const definitions = { plain: definitionsOf("plain"), "control.v1": definitionsOf("control.v1") }
