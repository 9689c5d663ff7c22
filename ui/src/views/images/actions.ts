import type { Image } from "../../lib/backend";
import { act } from "../../lib/stores/actions.svelte";
import { short } from "../../lib/format";
import { dialogs } from "../../lib/stores/dialogs.svelte";
import { containers, images } from "../../lib/stores/lists.svelte";
import { route } from "../../lib/stores/page.svelte";

export function title(image: Image): string {
  return image.tags[0] ?? `${short(image.id)} (untagged)`;
}

export async function removeImage(image: Image): Promise<void> {
  const users = image.usedBy.map((id) => containers.get(id)?.name ?? short(id));
  const answer = await dialogs.confirm({
    title: `Delete ${title(image)}?`,
    text: users.length
      ? "These containers use it. Running ones prevent its deletion; stopped ones could not start again."
      : "To use it again, you must pull or build it.",
    items: users.length ? users : image.tags.slice(1).map((tag) => `also removes the tag ${tag}`),
    action: "Delete image",
    dangerous: true,
  });
  if (!answer) return;
  const done = await act(
    {
      on: image.id,
      doing: "Deleting",
      failed: `Could not delete ${title(image)}`,
      foresee: () => images.foresee(image.id, () => null),
    },
    "image.remove",
    { image: image.id, force: users.length > 0 || image.tags.length > 1 },
  );
  if (done && route.selected === image.id) route.select(null);
}
