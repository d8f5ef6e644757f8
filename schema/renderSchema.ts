/** JSON Schema (draft 2020-12) of each level's messages, with queries for the renderers. Pure. */
import { Schema, SchemaRepresentation } from "effect"
import { AgentMessage, AgentMessageV1 } from "./messagesFromAgents.ts"
import { ControlMessage } from "./messagesFromControl.ts"
import { ControlMessageV1 } from "./messagesFromControlV1.ts"
import { GatewayMessage, GatewayMessageV1 } from "./messagesFromGateways.ts"
import type { ClientType } from "./ids.ts"
import type { Level } from "./protocol.ts"

/** Subset of JSON Schema that the messages use. */
export interface SchemaNode {
  readonly $ref?: string
  readonly type?: string
  readonly title?: string
  readonly description?: string
  readonly examples?: ReadonlyArray<Schema.Json>
  readonly enum?: ReadonlyArray<string>
  readonly properties?: { readonly [name: string]: SchemaNode }
  readonly required?: ReadonlyArray<string>
  readonly items?: SchemaNode
  readonly anyOf?: ReadonlyArray<SchemaNode>
  readonly minLength?: number
  readonly maxLength?: number
  readonly maxItems?: number
}

/** Content of `$defs`, by name. */
export type Definitions = Readonly<Record<string, SchemaNode>>

export const clientTypes = ["agent", "gateway"] as const

/** Names in `$defs` of the unions of messages that each type of client sends. */
export const clientUnionNames = { agent: "AgentMessage", gateway: "GatewayMessage" } as const

/** Every message of the level in `$defs`, and one `anyOf` for each direction. */
export const jsonSchema = (level: Level) => {
  const { definitions, schemas: [agent, gateway, control] } = multiDocument(level)
  return {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    $id: `urn:control:protocol:${level}`,
    title: `Control protocol, ${levels[level].name}`,
    description: "Every text frame on the WebSocket is one of these messages. Ignore unknown fields.",
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

/** Schemas of the messages from agents, from gateways and from Control, in this order, with the definitions they refer to. */
export const multiDocument = (level: Level) => {
  const { agent, control, gateway } = levels[level]
  return SchemaRepresentation.toJsonSchemaMultiDocument(
    SchemaRepresentation.toRepresentations([agent.ast, gateway.ast, control.ast], {
      referencePolicy: ({ identifier }) => identifier !== undefined && isNamed(identifier) ? identifier : undefined
    })
  )
}

/** Decoded definitions of a level's schema. */
export const definitionsOf = (level: Level): Definitions => decodeDefinitions(jsonSchema(level).$defs)

/** Names of all messages of a union and of its nested unions, without duplicates. */
export const members = (definitions: Definitions, union: string): ReadonlyArray<string> => {
  const names = (definitions[union]?.anyOf ?? []).map(referenceName)
  return [
    ...new Set(
      names.flatMap((name) => definitions[name]?.anyOf === undefined ? [name] : members(definitions, name))
    )
  ]
}

/** Types of clients that receive a message of Control, by the message's name in `$defs`. */
export const receiversOf = (name: string): ReadonlyArray<ClientType> => {
  if (/^(?:config_agent|gateway_)/u.test(name)) return ["agent"]
  return /^(?:config_gateway|agent_|certificate_)/u.test(name) ? ["gateway"] : ["agent", "gateway"]
}

/** Name that a node refers to; empty if the node is not a reference. */
export const referenceName = (node: SchemaNode): string => node.$ref?.slice("#/$defs/".length) ?? ""

/** Follows references. Properties next to a `$ref` override those of its target. */
export const resolveReference = (definitions: Definitions, node: SchemaNode): SchemaNode => {
  if (node.$ref === undefined) return node
  const target = definitions[referenceName(node)]
  if (target === undefined) throw new Error(`no definition of ${node.$ref}`)
  const { $ref: _, ...own } = node
  return { ...resolveReference(definitions, target), ...own }
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

const SchemaNode: Schema.Codec<SchemaNode> = Schema.Struct({
  $ref: Schema.optionalKey(Schema.String),
  type: Schema.optionalKey(Schema.String),
  title: Schema.optionalKey(Schema.String),
  description: Schema.optionalKey(Schema.String),
  examples: Schema.optionalKey(Schema.Array(Schema.Json)),
  enum: Schema.optionalKey(Schema.Array(Schema.String)),
  properties: Schema.optionalKey(Schema.Record(Schema.String, Schema.suspend(() => SchemaNode))),
  required: Schema.optionalKey(Schema.Array(Schema.String)),
  items: Schema.optionalKey(Schema.suspend(() => SchemaNode)),
  anyOf: Schema.optionalKey(Schema.Array(Schema.suspend(() => SchemaNode))),
  minLength: Schema.optionalKey(Schema.Number),
  maxLength: Schema.optionalKey(Schema.Number),
  maxItems: Schema.optionalKey(Schema.Number)
})

const decodeDefinitions = Schema.decodeUnknownSync(Schema.Record(Schema.String, SchemaNode))

/** Whether a schema gets a name in `$defs`. Small domain types are inlined, so that each use shows its own description. */
function isNamed(identifier: string): boolean {
  return /^[a-z_]+(?:_v1)?$/u.test(identifier) ||
    /^(?:Agent|Gateway)(?:Tunnel|Config|ConfigV1|OfAgent|OfGateway)$|^ErrorCode$/u.test(identifier)
}
