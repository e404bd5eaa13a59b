"""Write the emoji sample that ships with the package: 154 well-known subjects in all three styles.

    python recipes/emoji_sample.py        # reads the whole set: load_emoji(download=True)

The same versions of the packages give the same pictures. Lossless WebP is 40% smaller than PNG; writing takes about
three minutes.
"""

from __future__ import annotations

import sys

import torch

from diffusion_explained.files import check_file
from diffusion_explained.messages import unknown_name
from diffusion_explained.micro.emoji import SAMPLE_FILE, STYLES, EmojiSet, load_emoji, write_emoji

SUBJECTS = """
grinning face, face with tears of joy, smiling face with heart-eyes, smiling face with sunglasses, thinking face,
sleeping face, crying face, angry face, exploding head, skull, ghost, alien, robot, clown face, grinning cat, crying
cat, red heart, orange heart, yellow heart, green heart, blue heart, purple heart, black heart, broken heart, heart on
fire, thumbs up, waving hand, eye, tooth, brain, baby, man, woman, astronaut, police officer, cook, mermaid, vampire,
person running, monkey, gorilla, dog, dog face, poodle, wolf, fox, cat, cat face, black cat, lion, tiger, horse,
unicorn, zebra, cow, pig, camel, giraffe, elephant, mouse, rabbit, bear, panda, chicken, penguin, owl, frog,
crocodile, turtle, snake, dragon, whale, dolphin, fish, shark, octopus, crab, snail, butterfly, honeybee, spider,
rose, sunflower, tulip, cactus, palm tree, deciduous tree, christmas tree, maple leaf, mushroom, watermelon, lemon,
banana, pineapple, red apple, green apple, pear, strawberry, tomato, carrot, hot pepper, broccoli, hamburger, pizza,
hot dog, egg, birthday cake, doughnut, cookie, ice cream, lollipop, hot beverage, house, house with garden, castle,
locomotive, bus, automobile, police car, fire engine, bicycle, sailboat, ship, airplane, helicopter, rocket, alarm
clock, full moon, sun, star, cloud, rainbow, umbrella, snowman, fire, balloon, wrapped gift, soccer ball, basketball,
guitar, trumpet, drum, crown, t-shirt, glasses, laptop, light bulb, open book, key, hammer, bomb, magnet, chair, teddy
bear
"""


def sample_of(emoji: EmojiSet) -> EmojiSet:
    """The pictures of SUBJECTS, in the order of the whole set. Raises ValueError for a subject without all styles."""
    subjects = [" ".join(name.split()) for name in SUBJECTS.split(",")]
    for name in subjects:
        if name not in emoji.names:
            raise unknown_name("emoji", name, emoji.names)
        if int((emoji.subject == emoji.names.index(name)).sum()) != len(STYLES):
            raise ValueError(f"{name} is not drawn in all of {', '.join(STYLES)}")
    kept = sorted(emoji.names.index(name) for name in set(subjects))
    chosen = torch.isin(emoji.subject, torch.tensor(kept))
    return EmojiSet(
        emoji.images[chosen],
        torch.tensor([kept.index(subject) for subject in emoji.subject[chosen].tolist()]),
        emoji.style[chosen],
        names=tuple(emoji.names[subject] for subject in kept),
        keywords=tuple(emoji.keywords[subject] for subject in kept),
        groups=tuple(emoji.groups[subject] for subject in kept),
    )


if __name__ == "__main__":
    try:
        check_file(SAMPLE_FILE, "")
    except OSError as error:
        sys.exit(str(error))
    sample = sample_of(load_emoji(download=True))
    write_emoji(SAMPLE_FILE, sample, image_format="WEBP")
    print(f"{SAMPLE_FILE}: {len(sample.names)} subjects, {len(sample)} pictures, {SAMPLE_FILE.stat().st_size:,} bytes")
