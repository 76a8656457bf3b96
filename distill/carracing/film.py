"""An episode as a film: what the driver drives through, and beside it the images that its network was trained on.

film = Film(published_images, labels, classes)
drive(world, film.watched(driver), film)
Path("drive.webp").write_bytes(film.webp())
"""

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from distill.carracing.driving import Driver
from distill.carracing.simulator import Simulator
from distill.image_files import animate
from distill.picture import BACKGROUND, TEXT, to_images

EVERY = 10
"""Frames from one picture to the next."""
MILLISECONDS = 125
SIDE, CELL, GAP, CAPTION = 288, 60, 10, 16
CHOSEN = (214, 64, 42)


class Film:
    """Collects pictures while it watches an episode (distill/carracing/driving.py).

    `x` are images (n, 3, h, w) in [0, 1], the first of each class is shown; `y` their labels (n, classes).
    """

    def __init__(self, x: Tensor, y: Tensor, classes: tuple[str, ...]):
        top = y.argmax(1)
        self.classes = [k for k in range(len(classes)) if (top == k).any()]
        self.images = to_images(x[[int((top == k).nonzero()[0]) for k in self.classes]])
        self.names, self.action, self.pictures = classes, -1, []

    def watched(self, driver: Driver) -> Driver:
        """The same driver, whose choices are shown."""

        def choose(world: Simulator) -> int:
            self.action = driver(world)
            return self.action

        return choose

    def __call__(self, world: Simulator) -> None:
        if world.frames % EVERY == 0 or world.done:
            self.pictures.append(self._picture(world))

    def webp(self) -> bytes:
        """The bytes of an animated WebP."""
        return animate(self.pictures, MILLISECONDS, quality=45)

    def _picture(self, world: Simulator) -> Image.Image:
        columns = -(-len(self.images) // 3)
        sheet = Image.new("RGB", (SIDE + GAP + columns * (CELL + GAP) + 2 * GAP, SIDE), BACKGROUND)
        sheet.paste(Image.fromarray(world.picture).resize((SIDE, SIDE), Image.Resampling.BICUBIC), (0, 0))
        draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(10)
        for i, (k, image) in enumerate(zip(self.classes, self.images, strict=True)):
            left, top = SIDE + 2 * GAP + i % columns * (CELL + GAP), GAP + i // columns * (CELL + CAPTION + GAP)
            if k == self.action:
                draw.rectangle((left - 3, top - 3, left + CELL + 2, top + CELL + 2), CHOSEN)
            sheet.paste(image.resize((CELL, CELL), Image.Resampling.NEAREST), (left, top))
            name = self.names[k].replace(" and ", "+")
            draw.text((left + CELL / 2, top + CELL + 3), name, TEXT, font, anchor="ma")
        draw.text((SIDE + 2 * GAP, SIDE - 22), f"score {world.score:.0f}, frame {world.frames}", TEXT, font)
        return sheet
