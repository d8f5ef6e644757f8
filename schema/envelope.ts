/** Shape of every frame: a JSON object `{ type, data }`. */
import { Schema } from "effect"

/** Schema of the message `type` with its description and one example of `data`, as shown in protocol.md. */
export const message = <const Type extends string, Fields extends Schema.Struct.Fields>(
  type: Type,
  description: string,
  fields: Fields,
  example: NoInfer<Schema.Struct<Fields>["Type"]>
) => {
  const body = Schema.Struct({ type: Schema.Literal(type), data: Schema.Struct(fields) })
  return body.annotate({ identifier: type, title: type, description, examples: [{ type, data: example } as never] })
}
