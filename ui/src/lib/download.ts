// Files that leave the page: text, or the bytes of a complete stream.
import { BackendError, type Download, type StreamName, type Streams } from "./backend";
import { backend } from "./stores/page.svelte";

export function saveText(name: string, text: string): void {
  save({ name, blob: new Blob([text], { type: "text/plain" }) });
}

export function save({ name, blob }: Downloaded): void {
  const url = URL.createObjectURL(blob);
  const anchor = document.createElement("a");
  anchor.href = url;
  anchor.download = name;
  anchor.click();
  // By then the browser has read it.
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

type DownloadStream = { [S in StreamName]: Streams[S]["event"] extends Download ? S : never }[StreamName];

export interface Downloaded {
  name: string;
  blob: Blob;
}

/** Returns all bytes of a download; calls `onProgress` with the number received so far. */
export function fetchStream<S extends DownloadStream>(
  stream: S,
  params: Streams[S]["params"],
  onProgress?: (bytes: number) => void,
): Promise<Downloaded> {
  return new Promise((resolve, reject) => {
    const parts: Uint8Array<ArrayBuffer>[] = [];
    let name = "download";
    let size = 0;
    backend().open(stream, params, {
      onEvent: (event) => {
        name = (event as Download).name;
      },
      onBytes: (bytes) => {
        parts.push(new Uint8Array(bytes));
        size += bytes.length;
        onProgress?.(size);
      },
      // An explicit type, because a browser that guesses one changes the file name to match.
      onEnd: () => resolve({ name, blob: new Blob(parts, { type: "application/octet-stream" }) }),
      onError: reject,
    });
  });
}

export async function downloadStream<S extends DownloadStream>(
  stream: S,
  params: Streams[S]["params"],
  onProgress?: (bytes: number) => void,
): Promise<void> {
  save(await fetchStream(stream, params, onProgress));
}

/** Returns the text of a blob, or null if editing and saving it as text would corrupt it. */
export async function textOf(blob: Blob): Promise<string | null> {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(await blob.arrayBuffer());
  } catch (error) {
    if (error instanceof TypeError) return null;
    throw error;
  }
}

const CHUNK = 64 * 1024;

/** Uploads a blob through a stream; resolves when the other side has received all of it. */
export async function uploadStream<S extends "files.write" | "image.load">(
  name: S,
  params: Streams[S]["params"],
  blob: Blob,
): Promise<Streams[S]["event"] | null> {
  let answer: Streams[S]["event"] | null = null;
  return new Promise((resolve, reject) => {
    const stream = backend().open(name, params, {
      onEvent: (event) => {
        answer = event;
      },
      onEnd: () => resolve(answer),
      onError: reject,
    });
    void (async () => {
      try {
        for (let from = 0; from < blob.size; from += CHUNK)
          stream.sendBytes(new Uint8Array(await blob.slice(from, from + CHUNK).arrayBuffer()));
        stream.send({ kind: "finish" });
      } catch (error) {
        stream.close();
        reject(BackendError.from(error));
      }
    })();
  });
}
