/** HTTP API endpoints for the master key, which encrypts private keys in the database. */
import { count } from "./sharedFields.ts"
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { Authorization, describeEndpoint, Validation } from "./apiParts.ts"
import * as Problem from "./problems.ts"

const MasterKeyId = Schema.String.check(
  Schema.isPattern(/^[0-9a-f]{16}$/u, { message: "expected the 16 hex digits of a key's id" })
).annotate({ identifier: "MasterKeyId", description: "Identifies a master key without revealing anything about it." })

const MasterKey = Schema.Struct({
  writing: MasterKeyId.annotate({ description: "Key with which every node encrypts." }),
  readable: Schema.Array(MasterKeyId).annotate({ description: "Keys with which the answering node can decrypt." }),
  counts: Schema.Record(Schema.String, count("Number of values.")).annotate({
    description: "Number of encrypted values for each key, in the tables and the newest 10,000 changes of the log."
  }),
  isRotating: Schema.Boolean.annotate({
    description: "True while values may still be encrypted with an earlier key. Keep that key until this is false."
  })
}).annotate({ identifier: "MasterKey" })

export const RotationRequest = Schema.Struct({
  keyId: Schema.optionalKey(MasterKeyId).annotate({
    description:
      "Key to encrypt with. Every node must have this key. Default: the `CONTROL_MASTER_KEY` of the answering node."
  }),
  generate: Schema.optionalKey(Schema.Boolean).annotate({
    description: "Generate a new key in the data directory. Requires a single node whose key is not set by a setting."
  })
}).check(
  Schema.makeFilter(({ generate, keyId }) =>
    generate !== true || keyId === undefined || "expected either `keyId` or `generate`, not both"
  )
)
export type RotationRequest = typeof RotationRequest.Type

export class MasterKeyGroup extends HttpApiGroup.make("masterKey").add(
  HttpApiEndpoint.get("get", "/api/master-key", { success: MasterKey, error: Problem.StoreUnavailable })
    .annotateMerge(describeEndpoint("read", "Get the master keys in use")),
  HttpApiEndpoint.post("rotate", "/api/master-key/rotation", {
    payload: RotationRequest,
    success: MasterKey,
    error: [Problem.KeyNotEverywhere, Problem.KeyNotGenerated, Problem.StoreUnavailable]
  }).annotateMerge(describeEndpoint(
    "admin",
    "Change the master key",
    "Every node encrypts with the new key from now on. Stored values are re-encrypted in the background. Clients are not affected."
  ))
).middleware(Validation).middleware(Authorization).annotateMerge(OpenApi.annotations({ title: "Master key" })) {}
