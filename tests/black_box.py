"""A screen whose one element is seen: a black box on white."""

from PIL import Image, ImageDraw

BOX = [40.0, 120.0, 90.0, 150.0]


def screen() -> tuple[dict, Image.Image]:
    """Its row and its picture, 200 × 400."""
    image = Image.new("RGB", (200, 400), "white")
    ImageDraw.Draw(image).rectangle((40, 120, 89, 149), fill="black")
    line = {"text": "ab", "box": BOX, "edges": [40.0, 65.0, 90.0]}
    whole = {"type": "image", "box": [0, 0, 200, 400]}
    elements = [{"type": "text", "box": BOX}, whole]
    return {"texts": [line], "elements": elements, "width": 200, "height": 400}, image
