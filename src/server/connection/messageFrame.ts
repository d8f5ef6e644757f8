/** Encodes one message of Control as a WebSocket text frame. */
import type { ControlMessage } from "#schema/messagesFromControl.ts"
import type { ControlMessageV1 } from "#schema/messagesFromControlV1.ts"
import { encodeMessage } from "#schema/protocol.ts"
import { textFrame } from "#views/frames.ts"
import type { Buffer } from "node:buffer"

export type Message = ControlMessage | ControlMessageV1

export const messageFrame = (message: Message): Buffer => textFrame(encodeMessage(message))
