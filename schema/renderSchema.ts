/** Each level's messages as a JSON Schema (draft 2020-12), and what can be asked of it. Pure. */
import { Schema, SchemaRepresentation } from "effect"
import { AgentMessage, AgentMessageV1 } from "./agentMessages.ts"
import { ControlMessage } from "./controlMessages.ts"
import { ControlMessageV1 } from "./controlMessagesV1.ts"
import { GatewayMessage, GatewayMessageV1 } from "./gatewayMessages.ts"
import type { ClientType } from "./ids.ts"
import type { Level } from "./protocol.ts"

/** The part of JSON Schema that the messages use. */
export interface Node {
  readonly $ref?: string
  readonly type?: string
  readonly title?: string
  readonly description?: string
  readonly examples?: ReadonlyArray<Schema.Json>
  readonly enum?: ReadonlyArray<string>
  readonly properties?: { readonly [name: string]: Node }
  readonly required?: ReadonlyArray<string>
  readonly items?: Node
  readonly anyOf?: ReadonlyArray<Node>
  readonly minLength?: number
  readonly maxLength?: number
  readonly maxItems?: number
}

/** By name, what `$defs` has. */
export type Definitions = Readonly<Record<string, Node>>

export const clientTypes = ["agent", "gateway"] as const

/** What `$defs` calls the messages that clients of a type send. */
export const unionOf = { agent: "AgentMessage", gateway: "GatewayMessage" } as const

/** JSON Schema draft 2020-12: every message of this level in `$defs`, and one `anyOf` for each direction. */
export const jsonSchema = (level: Level) => {
  const { definitions, schemas: [agent, gateway, control] } = multiDocument(level)
  return {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    $id: `urn:control:protocol:${level}`,
    title: `Control protocol, ${levels[level].name}`,
    description: "Every text frame on the socket is one of these. Unknown fields are to be ignored.",
    anyOf: [{ $ref: "#/$defs/ClientMessage" }, { $ref: "#/$defs/ControlMessage" }],
    $defs: {
      ClientMessage: { anyOf: [{ $ref: "#/$defs/AgentMessage" }, { $ref: "#/$defs/GatewayMessage" }] },
      AgentMessage: agent,
      GatewayMessage: gateway,
      ControlMessage: control,
      ...definitions
    }
  }
}

/** What this level's agents, gateways and Control may say, in this order, and the definitions that this refers to. */
export const multiDocument = (level: Level) => {
  const { agent, control, gateway } = levels[level]
  return SchemaRepresentation.toJsonSchemaMultiDocument(
    SchemaRepresentation.toRepresentations([agent.ast, gateway.ast, control.ast], {
      referencePolicy: ({ identifier }) => identifier !== undefined && isNamed(identifier) ? identifier : undefined
    })
  )
}

/** What a level's schema defines, in the form in which it can be read. */
export const definitionsOf = (level: Level): Definitions => decodeDefinitions(jsonSchema(level).$defs)

/** The names of all messages of a union, those of a nested union too, each once. */
export const members = (definitions: Definitions, union: string): ReadonlyArray<string> => {
  const names = (definitions[union]?.anyOf ?? []).map(nameOf)
  return [
    ...new Set(
      names.flatMap((name) => definitions[name]?.anyOf === undefined ? [name] : members(definitions, name))
    )
  ]
}

/** Which clients a message of Control is for, by its name in `$defs`. */
export const receiversOf = (name: string): ReadonlyArray<ClientType> => {
  if (/^(?:config_agent|gateway_)/u.test(name)) return ["agent"]
  return /^(?:config_gateway|agent_|certificate_)/u.test(name) ? ["gateway"] : ["agent", "gateway"]
}

/** The name that a reference leads to; empty where there is none. */
export const nameOf = (node: Node): string => node.$ref?.slice("#/$defs/".length) ?? ""

/** Follows references; what the reference itself says goes before what its target says. */
export const resolve = (definitions: Definitions, node: Node): Node => {
  if (node.$ref === undefined) return node
  const target = definitions[nameOf(node)]
  if (target === undefined) throw new Error(`no definition of ${node.$ref}`)
  const { $ref: _, ...own } = node
  return { ...resolve(definitions, target), ...own }
}

const levels = {
  plain: { name: "plain level", agent: AgentMessage, gateway: GatewayMessage, control: ControlMessage },
  "control.v1": {
    name: "level control.v1",
    agent: AgentMessageV1,
    gateway: GatewayMessageV1,
    control: ControlMessageV1
  }
}

const Node: Schema.Codec<Node> = Schema.Struct({
  $ref: Schema.optionalKey(Schema.String),
  type: Schema.optionalKey(Schema.String),
  title: Schema.optionalKey(Schema.String),
  description: Schema.optionalKey(Schema.String),
  examples: Schema.optionalKey(Schema.Array(Schema.Json)),
  enum: Schema.optionalKey(Schema.Array(Schema.String)),
  properties: Schema.optionalKey(Schema.Record(Schema.String, Schema.suspend(() => Node))),
  required: Schema.optionalKey(Schema.Array(Schema.String)),
  items: Schema.optionalKey(Schema.suspend(() => Node)),
  anyOf: Schema.optionalKey(Schema.Array(Schema.suspend(() => Node))),
  minLength: Schema.optionalKey(Schema.Number),
  maxLength: Schema.optionalKey(Schema.Number),
  maxItems: Schema.optionalKey(Schema.Number)
})

const decodeDefinitions = Schema.decodeUnknownSync(Schema.Record(Schema.String, Node))

/** What gets a name in `$defs`; the small words of the domain are written out where they are used, with what they mean there. */
function isNamed(identifier: string): boolean {
  return /^[a-z_]+(?:_v1)?$/u.test(identifier) ||
    /^(?:Agent|Gateway)(?:Tunnel|Config|ConfigV1|OfAgent|OfGateway)$|^ErrorCode$/u.test(identifier)
}
